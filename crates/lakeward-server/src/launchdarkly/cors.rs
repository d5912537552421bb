//! What a browser wants to hear before its page may send events to another
//! host than its own.
//!
//! Source: *Fetch Standard*, "CORS protocol". The door has no cookies, and the
//! client-side id is in the page anyway, so that every origin may come in.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

/// The headers that LaunchDarkly's browser SDKs set; `*` would leave
/// `Authorization` out.
const HEADERS: &str = "Authorization, Content-Type, Content-Encoding, X-LaunchDarkly-Event-Schema, \
     X-LaunchDarkly-Payload-ID, X-LaunchDarkly-User-Agent, X-LaunchDarkly-Wrapper, X-LaunchDarkly-Tags, \
     X-LaunchDarkly-Instance-Id";
/// The most of a client's wish list that is echoed.
const ECHO_BYTES_MAX: usize = 1024;

/// Answers `OPTIONS`.
pub(super) async fn preflight(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    allow(&mut response);
    let mut set = |name: HeaderName, value| response.headers_mut().insert(name, value);
    set(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("OPTIONS, POST"));
    set(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("300"));
    // A newer SDK has headers that we do not know yet.
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let echo = asked.filter(|wish| !wish.is_empty() && wish.len() <= ECHO_BYTES_MAX).cloned();
    let allowed = echo.unwrap_or(HeaderValue::from_static(HEADERS));
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    response
}

/// Lets the page read the answer, and the server's time in it.
pub(super) fn allow(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
}
