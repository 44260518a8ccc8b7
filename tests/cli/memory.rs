//! The memory of a server whose clients want more than there is.

use std::time::Duration;

use tidings::{
    Code, Message,
    client::{Client, ClientError, Trust},
};

use crate::harness::Place;

/// Address space of the server, in KiB.
const ADDRESS_SPACE: u64 = 900 * 1024;

/// A hang is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// One user after the other fills new rooms with the largest messages, until each has its quota and the server nothing left. A client that
/// was connected before goes on.
#[test]
fn server_within_a_limit_of_address_space_refuses_instead_of_aborting() {
    let place = Place::new();
    let server = place.serve_within(ADDRESS_SPACE, &[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let attack = async {
        let healthy = client(&place, "healthy").await.unwrap();
        let room = "chat-room-healthy";
        healthy
            .publish(room, Message::text("before"))
            .await
            .unwrap();
        let mut refused = Vec::new();
        // Above twice of what there is: 60 rooms of 60 KiB a round, and 20 users with eight rounds.
        for user in 0..12 {
            let attacker = match client(&place, &format!("attacker-{user}")).await {
                Ok(attacker) => attacker,
                Err(error) => {
                    assert!(error.to_string().contains("memory"), "{error}");
                    break;
                }
            };
            for round in 0..20 {
                let burst = (0..60).map(|number| {
                    let room = format!("chat-room-{user}-{round}-{number}");
                    let message = Message::text("x".repeat(60 * 1024));
                    let attacker = &attacker;
                    async move { attacker.publish(&room, message).await }
                });
                let errors = futures_util::future::join_all(burst).await;
                refused.extend(errors.into_iter().filter_map(Result::err));
                if refused.len() > (user + 1) * 30 {
                    break;
                }
            }
            healthy
                .publish(room, Message::text("meanwhile"))
                .await
                .unwrap();
            healthy.ping().await.unwrap();
        }
        assert!(!refused.is_empty());
        for error in refused {
            match error {
                ClientError::Request { code, .. } => assert_eq!(code, Code::OVERLOADED),
                other => panic!("not refused, but {other}"),
            }
        }
        healthy.publish(room, Message::text("after")).await.unwrap();
        healthy.close().await;
    };
    runtime.block_on(async {
        let done = tokio::time::timeout(PATIENCE, attack).await;
        done.expect("the server does not answer");
    });
    place.run(&["announce", "still there"]).ok();
    server.signal("TERM");
    assert_eq!(server.end().code, Some(0));
}

async fn client(place: &Place, user: &str) -> Result<Client, ClientError> {
    let token = place.run(&["token", "--user", user]).ok();
    let sha256 = place.address("certificate_sha256").parse().unwrap();
    Client::builder(place.address("quic"))
        .trust(Trust::Hashes(vec![sha256]))
        .token(token.trim())
        .connect()
        .await
}
