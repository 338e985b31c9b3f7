//! What a question says, and what is wrong with it: which parameter, and what it may be.

use axum::{
    extract::{FromRequestParts, Query as Read},
    http::{StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;

use super::{
    endpoints::{ENDPOINTS, Endpoint, Kind, Parameter},
    handlers::refused as refusal,
};

/// The parameters of a question.
pub(super) struct Query<T>(pub T);

/// Why they cannot be read.
pub(super) struct Misread(String);

/// A question as it came, or why it cannot be answered.
pub(super) type Asked<T> = Result<Query<T>, Misread>;

impl Misread {
    /// In a sentence.
    pub fn text(self) -> String {
        self.0
    }
}

impl IntoResponse for Misread {
    fn into_response(self) -> Response {
        refusal(StatusCode::BAD_REQUEST, self.0)
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Misread;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, Misread> {
        Read::<T>::try_from_uri(&parts.uri)
            .map(|Read(query)| Query(query))
            .map_err(|why| Misread(why_not(&parts.uri).unwrap_or_else(|| why.body_text())))
    }
}

/// What is wrong, by what the path takes; `None` where that is not to be seen.
fn why_not(uri: &Uri) -> Option<String> {
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.path == uri.path())?;
    let Read(given) = Read::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    for (place, (name, value)) in given.iter().enumerate() {
        let Some(parameter) = endpoint.parameters.iter().find(|known| known.name == name) else {
            return Some(unknown(endpoint, name));
        };
        if given[..place].iter().any(|(before, _)| before == name) {
            return Some(format!("{name} is there twice: it can be given once"));
        }
        if let Some(may_be) = refused(parameter, value) {
            return Some(format!("{name} cannot be {value:?}: {may_be}"));
        }
    }
    let missing =
        |parameter: &&Parameter| parameter.required && !given.iter().any(|(name, _)| name == parameter.name);
    endpoint.parameters.iter().find(missing).map(|parameter| {
        let Parameter {
            name, help, example, ..
        } = parameter;
        format!("{name} is missing ({help}): write {name}={example}")
    })
}

fn unknown(endpoint: &Endpoint, name: &str) -> String {
    let names: Vec<&str> = endpoint.parameters.iter().map(|known| known.name).collect();
    match names.is_empty() {
        true => format!(
            "{} takes no parameters, and none is called {name:?}",
            endpoint.path
        ),
        false => format!(
            "{} has no parameter {name:?}: it takes {}",
            endpoint.path,
            names.join(", ")
        ),
    }
}

/// What a parameter may be, where it may not be this.
fn refused(parameter: &Parameter, value: &str) -> Option<String> {
    let example = parameter.example;
    match &parameter.kind {
        Kind::Flag => (!matches!(value, "true" | "false")).then(|| "write true or false".to_string()),
        Kind::Number(most) => value
            .parse::<u64>()
            .is_err()
            .then(|| format!("write a number from 1 to {most}, such as {example}")),
        Kind::Percent => value
            .parse::<f64>()
            .is_err()
            .then(|| format!("write a number above 0 and up to 100, such as {example}")),
        Kind::Time => value
            .parse::<i64>()
            .is_err()
            .then(|| format!("write seconds since 1970, such as {example}")),
        // Their own readers know more of them.
        Kind::Text | Kind::Word(_) => None,
    }
}
