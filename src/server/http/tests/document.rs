use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{super::document::render, KEY, Server};

#[tokio::test]
async fn the_document_describes_every_route_and_needs_no_key() {
    let server = Server::start().await;
    let answer = server.ask("GET /openapi.json HTTP/1.1\r\nHost: t").await;
    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3."),
        "{document}"
    );
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));

    let paths: BTreeSet<_> = document["paths"].as_object().unwrap().keys().collect();
    let routes = [
        "/health",
        "/openapi.json",
        "/v1/announce",
        "/v1/channels",
        "/v1/disconnect",
        "/v1/history",
        "/v1/notify",
        "/v1/presence",
        "/v1/publish",
        "/v1/revoke",
        "/v1/sessions",
        "/v1/subscribe",
        "/v1/unsubscribe",
    ];
    assert!(paths.into_iter().eq(routes.iter()), "{document}");

    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(
        (&schemes["bearer"]["type"], &schemes["bearer"]["scheme"]),
        (&json!("http"), &json!("bearer"))
    );
    assert_eq!(
        (&schemes["x-api-key"]["in"], &schemes["x-api-key"]["name"]),
        (&json!("header"), &json!("X-API-Key"))
    );
    for route in ["/v1/announce", "/v1/notify", "/v1/publish"] {
        let operation = &document["paths"][route]["post"];
        assert_eq!(
            operation["security"],
            json!([{"bearer": []}, {"x-api-key": []}]),
            "{route}"
        );
        let statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().collect();
        let wanted = [
            "200", "400", "401", "408", "409", "413", "415", "422", "500", "503",
        ];
        assert_eq!(statuses, wanted, "{route}");
    }
    for route in [
        "history",
        "sessions",
        "subscribe",
        "unsubscribe",
        "disconnect",
        "revoke",
    ] {
        let operation = &document["paths"][format!("/v1/{route}")]["post"];
        assert_eq!(
            operation["security"],
            json!([{"bearer": []}, {"x-api-key": []}]),
            "{route}"
        );
        let statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().collect();
        let mut wanted = vec!["200", "400", "401", "408", "413", "415", "422", "500"];
        // The others need no room.
        if route == "revoke" {
            wanted.push("503");
        }
        assert_eq!(statuses, wanted, "{route}");
    }
    let operation = &document["paths"]["/v1/presence"]["get"];
    assert_eq!(
        operation["security"],
        json!([{"bearer": []}, {"x-api-key": []}])
    );
    let statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().collect();
    assert_eq!(
        statuses,
        ["200", "400", "401", "404", "408", "422", "500"],
        "{operation}"
    );
    for name in ["InvalidHost", "NotFound", "MethodNotAllowed"] {
        assert!(
            document["components"]["responses"][name].is_object(),
            "{name}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn every_example_of_the_document_is_true() {
    let server = Server::start().await;
    let document = server
        .ask("GET /openapi.json HTTP/1.1\r\nHost: t")
        .await
        .json();
    let schemas = &document["components"]["schemas"];
    for (route, schema) in [
        ("announce", "Announce"),
        ("notify", "Notify"),
        ("publish", "Publish"),
    ] {
        let path = format!("/v1/{route}");
        let operation = &document["paths"][&path]["post"];
        let examples =
            operation["requestBody"]["content"]["application/json"]["examples"].as_object();
        let mut bodies: Vec<&Value> = examples
            .into_iter()
            .flat_map(|map| map.values())
            .map(|e| &e["value"])
            .collect();
        bodies.push(&schemas[schema]["example"]);
        for body in bodies {
            let answer = server.post(&path, body).await;
            assert_eq!(answer.status, 200, "{body}: {answer:?}");
        }
        let wanted = [
            "invalid_json",
            "invalid_request",
            "incomplete_body",
            "unauthenticated",
            "invalid_token",
            "request_timeout",
            "message_too_large",
            "unsupported_charset",
            "unsupported_content_encoding",
            "unsupported_content_type",
            "internal",
            "too_many_channels",
            "overloaded",
            "going_away",
            "invalid_key",
            "key_reused",
        ];
        let mut codes = BTreeSet::new();
        for (status, response) in operation["responses"].as_object().unwrap() {
            let content = &response["content"]["application/json"];
            let Some(examples) = content["examples"].as_object() else {
                continue;
            };
            assert_eq!(
                content["schema"]["$ref"], "#/components/schemas/ErrorBody",
                "{status}"
            );
            for (name, example) in examples {
                assert_eq!(example["value"]["error"]["code"], *name);
                codes.insert(name.as_str());
            }
        }
        let own: &[&str] = match route {
            "notify" => &["invalid_user"],
            "publish" => &["invalid_channel", "invalid_base64", "invalid_user"],
            _ => &[],
        };
        let wanted: BTreeSet<_> = wanted.iter().chain(own).copied().collect();
        assert_eq!(codes, wanted, "{route}");
    }
    for (route, schema) in [
        ("history", "History"),
        ("sessions", "ListSessions"),
        ("subscribe", "Membership"),
        ("unsubscribe", "Membership"),
        ("disconnect", "Disconnect"),
        ("revoke", "Revoke"),
    ] {
        let answer = server
            .post(&format!("/v1/{route}"), &schemas[schema]["example"])
            .await;
        assert_eq!(answer.status, 200, "{route}: {answer:?}");
    }
    // No fact about this server stands in a document that everybody may read.
    assert!(!document.to_string().contains(KEY));
    server.stop().await;
}

/// The generator of the document keeps the last of two schemas with one name, without a word.
#[test]
fn component_names_of_the_document_are_unique() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/http");
    let mut defined = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for item in text.split("#[derive(").skip(1) {
            let (derived, rest) = item.split_once(")]").unwrap();
            if !derived.contains("ToSchema") {
                continue;
            }
            assert!(
                !rest.contains("schema(as ="),
                "{path:?}: names are those of the types"
            );
            let (_, name) = rest.split_once("struct ").unwrap();
            let name = name.split([' ', '<', '{']).next().unwrap().to_owned();
            if let Some(other) = defined.insert(name.clone(), path.clone()) {
                panic!("two schemas {name}: in {other:?} and {path:?}");
            }
        }
    }
    let document: Value = serde_json::from_str(&render()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let known: BTreeSet<_> = schemas.keys().collect();
    assert_eq!(known, defined.keys().collect::<BTreeSet<_>>());
}

#[test]
fn references_of_the_document_resolve_and_operation_ids_are_unique() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    found.insert(reference);
                }
                fields.values().for_each(|inner| references(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&render()).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        let reference = format!("#/components/schemas/{name}");
        assert!(found.contains(reference.as_str()), "{name} is used nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{method} {path}: {id} is another's");
        }
    }
}
