use super::{Answer, KEY, Server};
use crate::server::http::{ApiKey, InvalidApiKey};

#[test]
fn a_key_is_long_enough_and_can_be_sent_and_is_not_shown() {
    let error = ApiKey::new("fifteen-bytes-x").unwrap_err();
    assert_eq!(
        error,
        InvalidApiKey::TooShort {
            length: 15,
            min: 16
        }
    );
    assert!(
        error.to_string().contains("at least 16 are needed"),
        "{error}"
    );
    let error = ApiKey::new("sixteen-bytes-xx-and-a-line-end\n").unwrap_err();
    assert_eq!(error, InvalidApiKey::Character { at: 31 });
    assert_eq!(
        ApiKey::new("").unwrap_err(),
        InvalidApiKey::TooShort { length: 0, min: 16 }
    );
    let key = ApiKey::new("sixteen-bytes-xx").unwrap();
    assert_eq!(format!("{key:?}"), "ApiKey(..)");
}

#[tokio::test]
async fn without_the_key_nothing_is_published_and_all_wrong_keys_look_alike() {
    let server = Server::start().await;
    let ask = async |path: &str, headers: &str| {
        let body = r#"{"text":"x"}"#;
        let length = body.len();
        let answer = server
            .ask(&format!(
                "POST {path} HTTP/1.1\r\nHost: t\r\n{headers}Content-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        let date = answer.header("date").unwrap_or_default().to_owned();
        Answer {
            head: answer.head.replace(&date, ""),
            ..answer
        }
    };
    for path in ["/v1/notify", "/v1/announce", "/v1/publish"] {
        for headers in [
            "",
            "Authorization: Basic dTpw\r\n",
            "Authorization: Bearer\r\n",
            "Authorization: é\r\n",
        ] {
            let answer = ask(path, headers).await;
            let message = answer.error(401, "unauthenticated", Some(200));
            assert!(message.contains("Authorization: Bearer KEY"), "{message}");
            assert_eq!(
                answer.header("www-authenticate"),
                Some(r#"Bearer realm="tidings""#)
            );
        }
        let first = ask(path, "X-API-Key: wrong\r\n").await;
        first.error(401, "invalid_token", Some(201));
        assert!(
            first
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer ")
        );
        let close = format!("{}x", &KEY[..KEY.len() - 1]);
        for wrong in [
            &KEY[1..],
            &KEY[..KEY.len() - 1],
            &close,
            &KEY.to_uppercase(),
            &"x".repeat(9000),
            "",
        ] {
            assert_eq!(
                ask(path, &format!("X-API-Key: {wrong}\r\n")).await,
                first,
                "{wrong}"
            );
            if !wrong.is_empty() {
                assert_eq!(
                    ask(path, &format!("Authorization: Bearer {wrong}\r\n")).await,
                    first
                );
            }
        }
        // The header that decides is wrong.
        let both = format!("Authorization: Bearer {KEY}\r\nX-API-Key: wrong\r\n");
        assert_eq!(ask(path, &both).await, first);
    }
    assert_eq!(server.broker.stats().publications, 0);
    server.stop().await;
}
