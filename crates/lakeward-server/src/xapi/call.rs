//! What a client asks for: method, query, headers and body, also in the
//! alternate request syntax that old browsers need (part three, section 1.3).

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;

use crate::body::{self, Reservation};
use crate::doors::Doors;
use crate::events::encoding;
use crate::inflate::{Encoding, inflate};
use crate::refusal::Refusal;

/// The header with the version of the protocol.
pub(super) const VERSION: HeaderName = HeaderName::from_static("x-experience-api-version");
/// The largest body in the alternate syntax: it is read before we know whose
/// it is.
const FORM_BYTES_MAX: u64 = 4 << 20;

/// A version of the protocol that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Version {
    /// 1.0.x
    #[default]
    One,
    /// 2.0.x
    Two,
}

impl Version {
    /// The one that a header means.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is = |version: &str| {
            text == version || text.strip_prefix(version).is_some_and(|it| it.starts_with('.'))
        };
        if is("1.0") {
            Some(Self::One)
        } else if is("2.0") {
            Some(Self::Two)
        } else {
            None
        }
    }

    /// As we answer.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::One => "1.0.3",
            Self::Two => "2.0.0",
        }
    }
}

/// A request, let in and read.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) version: Version,
    query: Vec<(String, String)>,
    /// Unpacked.
    pub(super) body: Bytes,
    pub(super) reservation: Reservation,
    /// Who sends it, if the door asks.
    pub(super) user: Option<String>,
}

impl Call {
    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether anything is asked for by the query.
    pub(super) fn asks(&self) -> bool {
        !self.query.is_empty()
    }

    /// Lets a request in and reads it.
    ///
    /// # Errors
    /// It is refused.
    pub(super) async fn read(doors: &Doors, parts: &mut Parts, body: &mut Body) -> Result<Self, Refusal> {
        let query = parts.uri.query().map(pairs).unwrap_or_default();
        let alternate = query.iter().find(|(name, _)| name == "method").map(|(_, method)| method.clone());
        if let Some(method) = alternate.filter(|_| parts.method == Method::POST) {
            return Self::of_form(doors, &method, parts, body).await;
        }
        let user = let_in(doors, parts)?;
        let version = version(doors, parts)?;
        let (bytes, reservation) = if parts.method == Method::GET {
            (Bytes::new(), doors.budget.reserve(0)?)
        } else {
            content_type(parts)?;
            read_body(doors, parts, body, doors.limits.body_bytes).await?
        };
        Ok(Self { method: parts.method.clone(), version, query, body: bytes, reservation, user })
    }

    /// What else would be headers, query and body are the fields of a form.
    async fn of_form(
        doors: &Doors,
        method: &str,
        parts: &mut Parts,
        body: &mut Body,
    ) -> Result<Self, Refusal> {
        let limit = doors.limits.body_bytes.min(FORM_BYTES_MAX);
        let (form, mut reservation) = read_body(doors, parts, body, limit).await?;
        reservation.grow(form.len() * 4)?;
        let form = std::str::from_utf8(&form).map_err(|_| Refusal::bad_request("the form is no text"))?;
        let mut content = String::new();
        let mut query = Vec::new();
        for (name, value) in pairs(form) {
            let known = [header::AUTHORIZATION, header::CONTENT_TYPE, VERSION];
            if let Some(known) = known.into_iter().find(|known| name.eq_ignore_ascii_case(known.as_str())) {
                let value = HeaderValue::from_str(&value);
                let value = value.map_err(|_| Refusal::bad_request(format!("{name} is no header")))?;
                parts.headers.insert(known, value);
            } else if name == "content" {
                content = value;
            } else {
                query.push((name, value));
            }
        }
        let user = let_in(doors, parts)?;
        let version = version(doors, parts)?;
        let method = match method {
            "GET" => Method::GET,
            "PUT" => Method::PUT,
            "POST" => Method::POST,
            _ => return Err(Refusal::bad_request("`method` is GET, PUT or POST")),
        };
        Ok(Self { method, version, query, body: content.into(), reservation, user })
    }
}

/// Who it is; nobody in particular where nobody is asked.
fn let_in(doors: &Doors, parts: &Parts) -> Result<Option<String>, Refusal> {
    if !doors.gate.basic(&parts.headers) {
        let message = "these credentials are not among `xapi.credentials`";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message));
    }
    doors.check_rate().map_err(Refusal::too_fast)?;
    Ok(crate::auth::basic(&parts.headers).and_then(|pair| {
        let user = pair.split(|byte| *byte == b':').next()?;
        String::from_utf8(user.to_vec()).ok()
    }))
}

fn version(doors: &Doors, parts: &Parts) -> Result<Version, Refusal> {
    let Some(value) = parts.headers.get(VERSION) else {
        let message = "the header X-Experience-API-Version is required";
        return if doors.xapi.strict { Err(Refusal::bad_request(message)) } else { Ok(Version::default()) };
    };
    let version = value.to_str().ok().and_then(|text| Version::parse(text.trim()));
    version
        .ok_or_else(|| Refusal::bad_request("X-Experience-API-Version: this server speaks 1.0.x and 2.0.x"))
}

fn content_type(parts: &Parts) -> Result<(), Refusal> {
    let text =
        parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text.trim_start().to_ascii_lowercase().starts_with("multipart/") {
        let message = "attachments are not taken: send the statements as application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    Ok(())
}

async fn read_body(
    doors: &Doors,
    parts: &Parts,
    body: &mut Body,
    limit: u64,
) -> Result<(Bytes, Reservation), Refusal> {
    let encoding = encoding(&parts.headers)?;
    let (sent, reservation) = body::read(body, limit, &doors.budget, doors.limits.body_read_timeout).await?;
    let limit = if encoding == Encoding::Identity { limit } else { doors.limits.decompressed_bytes };
    Ok(inflate(encoding, sent, limit, reservation).await?)
}

/// The fields of a query or form.
fn pairs(text: &str) -> Vec<(String, String)> {
    let Ok(mut url) = reqwest::Url::parse("http://localhost/") else { return Vec::new() };
    url.set_query(Some(text));
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, expect) in [
            ("1.0", Some(Version::One)),
            ("1.0.0", Some(Version::One)),
            ("1.0.3", Some(Version::One)),
            ("2.0", Some(Version::Two)),
            ("2.0.1", Some(Version::Two)),
            ("0.95", None),
            ("1.1.0", None),
            ("1.00", None),
            ("", None),
            ("3.0", None),
        ] {
            assert_eq!(Version::parse(text), expect, "{text}");
        }
    }

    #[test]
    fn forms_are_read_whole() {
        let found = pairs("statementId=a%20b&content=%7B%22a%22%3A%22%23+%26%22%7D&x");
        let expect = [("statementId", "a b"), ("content", "{\"a\":\"# &\"}"), ("x", "")];
        assert_eq!(found, expect.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
