//! Signing a POST with AWS's Signature Version 4.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use lakeward_model::Timestamp;

/// A request that cannot be signed, for a person.
#[derive(Debug, thiserror::Error)]
#[error("the call cannot be signed: {0}")]
pub(crate) struct NotSigned(String);

/// The headers that sign a POST of `body` to `url`, which has the host, so that
/// the call is `service`'s in `region` at `now`. `headers` are signed too and
/// must be sent as they are, with lower-case names.
///
/// # Errors
/// The address or a header is not one; nothing but a change of it helps.
pub(crate) fn signature(
    url: &str,
    (service, region): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
    credentials: Credentials,
    now: Timestamp,
) -> Result<Vec<(String, String)>, NotSigned> {
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(UNIX_EPOCH + Duration::from_micros(now.micros().try_into().unwrap_or(0)))
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| NotSigned(error.to_string()))?
        .into();
    let request = SignableRequest::new("POST", url, headers.iter().copied(), SignableBody::Bytes(body))
        .map_err(|error| NotSigned(error.to_string()))?;
    let (instructions, _) =
        sign(request, &params).map_err(|error| NotSigned(error.to_string()))?.into_parts();
    Ok(instructions.headers().map(|(name, value)| (name.into(), value.into())).collect())
}
