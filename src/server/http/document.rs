//! The OpenAPI document: generated from the handlers, with every error as the code really writes it.

use std::{collections::BTreeMap, marker::PhantomData};

use axum::http::{Method, StatusCode};
use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        Content, Header, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder,
        example::ExampleBuilder,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{
    Config,
    body::{Shape, parse},
    channels, health, history, presence,
    rejection::{ErrorBody, ErrorDetail, Rejection},
    routes, sessions,
};
use crate::{
    broker::PublishError,
    session::TooManyRevocations,
    wire::{ChannelName, UserId},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidings HTTP API",
        description = "Publish to the channels of a Tidings server, read what it keeps of them, and direct its live sessions. The API key is the server's own authority: \
            whoever has it publishes in the server's name to any channel and reads any, and no rule is asked.\n\n\
            Every error is `{\"error\": {\"code\", \"number\", \"message\"}}`, also that of an unknown path (404) and of a \
            wrong method (405).",
    ),
    paths(
        routes::notify,
        routes::announce,
        routes::publish,
        history::history,
        presence::presence,
        channels::channels,
        sessions::list,
        sessions::subscribe,
        sessions::unsubscribe,
        sessions::disconnect,
        sessions::revoke,
        health::health,
        routes::openapi
    ),
    components(schemas(ErrorBody, ErrorDetail)),
    tags(
        (name = "publish", description = "Needs the API key."),
        (name = "sessions", description = "Orders for live sessions. Needs the API key."),
        (name = "operation", description = "How the server is."),
    ),
    modifiers(&Additions)
)]
struct Described;

/// The document as JSON.
pub(super) fn render() -> String {
    match Described::openapi().to_json() {
        Ok(json) => json,
        // Its keys are strings and its writer is memory: a test reads it.
        Err(error) => {
            tracing::error!(%error, "the OpenAPI document cannot be written");
            "{}".to_owned()
        }
    }
}

/// What belongs to no single operation.
struct Additions;

impl Modify for Additions {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description = Some("`Authorization: Bearer KEY`".to_owned());
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let header = ApiKeyValue::with_description(
            "X-API-Key",
            "The same key; it decides where both headers are there.",
        );
        components.add_security_scheme("x-api-key", SecurityScheme::ApiKey(ApiKey::Header(header)));
        let path = "/v1/notify".to_owned();
        for (name, rejection) in [
            (
                "NotFound",
                Rejection::NotFound {
                    path: "/v2/notify".to_owned(),
                },
            ),
            (
                "InvalidHost",
                Rejection::Host("there is more than one `Host` header"),
            ),
            (
                "MethodNotAllowed",
                Rejection::Method {
                    method: Method::GET,
                    path,
                },
            ),
        ] {
            let response = response(rejection.status(), &[rejection]);
            components
                .responses
                .insert(name.to_owned(), response.into());
        }
    }
}

/// What `POST /v1/notify` may answer but success.
pub(super) struct NotifyErrors;
/// What `POST /v1/announce` may answer but success.
pub(super) struct AnnounceErrors;
/// What `POST /v1/publish` may answer but success.
pub(super) struct PublishErrors;
/// What `POST /v1/history` may answer but success.
pub(super) struct HistoryErrors;

impl IntoResponses for NotifyErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let user = UserId::parse("a b").map_err(Rejection::User);
        responses::<routes::Notify>(publishing().chain(user.err()))
    }
}

impl IntoResponses for AnnounceErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses::<routes::Announce>(publishing())
    }
}

impl IntoResponses for PublishErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let channel = ChannelName::parse("a b").map_err(Rejection::Channel);
        let user = UserId::parse("a b").map_err(Rejection::User);
        let base64 = routes::decode("AAA!").err();
        let own = channel.err().into_iter().chain(base64).chain(user.err());
        responses::<routes::Publish>(publishing().chain(own))
    }
}

impl IntoResponses for HistoryErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let channel = ChannelName::parse("a b").map_err(Rejection::Channel);
        let from = history::position("17").err();
        responses::<history::History>(channel.err().into_iter().chain(from))
    }
}

/// What `GET /v1/presence` may answer but success.
pub(super) struct PresenceErrors;

impl IntoResponses for PresenceErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let channel = ChannelName::parse("a b").map_err(Rejection::Channel);
        let own = [
            Rejection::NoKey,
            Rejection::WrongKey,
            presence::missing("channel"),
            Rejection::NoPresence,
            Rejection::Timeout(Config::default().request),
            Rejection::Panicked,
        ];
        by_status(own.into_iter().chain(channel.err()))
    }
}

/// What `GET /v1/channels` may answer but success.
pub(super) struct ChannelsErrors;

impl IntoResponses for ChannelsErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let channel = ChannelName::parse("a b").map_err(Rejection::Channel);
        let own = [
            Rejection::NoKey,
            Rejection::WrongKey,
            channels::no_number(),
            Rejection::Timeout(Config::default().request),
            Rejection::Panicked,
        ];
        by_status(own.into_iter().chain(channel.err()))
    }
}

/// What an order for sessions may answer but success.
pub(super) struct SessionErrors<T>(PhantomData<T>);
/// What `POST /v1/revoke` may answer but success.
pub(super) struct RevokeErrors;
/// What an order with a channel may answer but success.
pub(super) struct ChannelErrors<T>(PhantomData<T>);

impl<T: Shape> IntoResponses for SessionErrors<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let user = UserId::parse("a b").map_err(Rejection::User);
        responses::<T>(user.err())
    }
}

impl IntoResponses for RevokeErrors {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let user = UserId::parse("a b").map_err(Rejection::User);
        let full = Rejection::Revocations(TooManyRevocations);
        responses::<sessions::Revoke>(user.err().into_iter().chain([full]))
    }
}

impl<T: Shape> IntoResponses for ChannelErrors<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let user = UserId::parse("a b").map_err(Rejection::User);
        let channel = ChannelName::parse("a b").map_err(Rejection::Channel);
        responses::<T>(user.err().into_iter().chain(channel.err()))
    }
}

/// The errors of what publishes.
fn publishing() -> impl Iterator<Item = Rejection> {
    [
        Rejection::Publish(PublishError::TooManyChannels { max: 1_000_000 }),
        Rejection::Publish(PublishError::Overloaded),
        Rejection::Publish(PublishError::Closed),
        Rejection::Publish(PublishError::InvalidKey {
            length: 129,
            max: 128,
        }),
        Rejection::Publish(PublishError::KeyReused),
    ]
    .into_iter()
}

/// Every error of an operation by its status: those that all have, and its own.
fn responses<T: Shape>(
    own: impl IntoIterator<Item = Rejection>,
) -> BTreeMap<String, RefOr<Response>> {
    let config = Config::default();
    let common = [
        Rejection::NoKey,
        Rejection::WrongKey,
        Rejection::ContentType {
            found: "\"text/plain\"".to_owned(),
        },
        Rejection::Charset {
            found: "\"utf-16\"".to_owned(),
        },
        Rejection::Encoding {
            found: "gzip".to_owned(),
        },
        Rejection::Incomplete,
        Rejection::BodyTooLarge {
            limit: config.body_limit,
        },
        Rejection::Timeout(config.request),
        Rejection::Panicked,
    ];
    let bodies = ["{", "{}"].map(|body| parse::<T>(body.as_bytes()).err());
    by_status(
        common
            .into_iter()
            .chain(bodies.into_iter().flatten())
            .chain(own),
    )
}

fn by_status(rejections: impl IntoIterator<Item = Rejection>) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<StatusCode, Vec<Rejection>>::new();
    for rejection in rejections {
        by_status
            .entry(rejection.status())
            .or_default()
            .push(rejection);
    }
    by_status
        .into_iter()
        .map(|(status, rejections)| {
            (
                status.as_str().to_owned(),
                response(status, &rejections).into(),
            )
        })
        .collect()
}

/// The response of a status, with the body of each of its errors as an example.
fn response(status: StatusCode, rejections: &[Rejection]) -> Response {
    let mut content = Content::new(Some(Ref::from_schema_name("ErrorBody")));
    for rejection in rejections {
        let example = ExampleBuilder::new()
            .value(serde_json::to_value(rejection.body()).ok())
            .build();
        content
            .examples
            .insert(rejection.name().to_owned(), example.into());
    }
    let response = ResponseBuilder::new()
        .description(status.canonical_reason().unwrap_or("An error."))
        .content("application/json", content);
    let header = match status {
        StatusCode::UNAUTHORIZED => "WWW-Authenticate",
        StatusCode::SERVICE_UNAVAILABLE => "Retry-After",
        StatusCode::METHOD_NOT_ALLOWED => "Allow",
        _ => return response.build(),
    };
    response.header(header, Header::default()).build()
}
