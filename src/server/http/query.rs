//! From the query of a request to what a handler takes.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{Uri, request::Parts},
};
use url::form_urlencoded;

use super::{rejection::Rejection, routes::Api};

/// The query of a request that carries the key.
pub(super) struct Asked(pub(super) Query);

pub(super) struct Query(Uri);

impl FromRequestParts<Arc<Api>> for Asked {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Rejection> {
        api.key.check(&parts.headers)?;
        Ok(Self(Query(parts.uri.clone())))
    }
}

impl Query {
    /// The fields with these names; another one, or one twice, is refused.
    pub(super) fn fields<const N: usize>(
        &self,
        names: [&str; N],
        shape: &'static str,
    ) -> Result<[Option<String>; N], Rejection> {
        let mut found = [const { None }; N];
        let query = self.0.query().unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let reason = match names.iter().position(|known| *known == name) {
                None => format!("there is no field {name:?}"),
                Some(at) if found[at].is_none() => {
                    found[at] = Some(value.into_owned());
                    continue;
                }
                Some(_) => format!("`{name}` is there twice"),
            };
            return Err(Rejection::Query { reason, shape });
        }
        Ok(found)
    }
}
