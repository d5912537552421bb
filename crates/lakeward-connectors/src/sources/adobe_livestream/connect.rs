//! One connection to Livestream: token, request, redirections, and what an
//! answer without a stream means.

use std::time::Duration;

use lakeward_model::{Failure, FailureKind, Secret, innermost};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderValue, LOCATION};
use reqwest::{Client, Response, Url, redirect};
use tokio::time::timeout;
use tracing::debug;

use super::config::{AdobeLivestreamConfig, AdobeLivestreamConfigError, Reset, wrong};
use super::token::Tokens;
use super::{failures, reply};

/// As in Adobe's sample client.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REDIRECTS_MAX: usize = 5;
/// The most bytes that are read of an answer that is an error.
const ERROR_BYTES_MAX: usize = 4 << 10;

/// What makes connections.
#[derive(Debug)]
pub(super) struct Connector {
    config: AdobeLivestreamConfig,
    client: Client,
    pub(super) tokens: Tokens,
}

/// A stream that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) response: Response,
    /// Whether the head says that the body is gzip.
    pub(super) is_gzip: bool,
    /// With which reset it began.
    pub(super) reset: Option<Reset>,
}

/// An answer that is none yet.
enum Step {
    Opened(Response),
    Moved(Url),
    Unauthorized(Failure),
}

impl Connector {
    pub(super) fn open(
        config: &AdobeLivestreamConfig,
        folder: &std::path::Path,
    ) -> Result<Self, AdobeLivestreamConfigError> {
        // HTTP/1.1 or Livestream answers 505; unpacked by us, as it arrives.
        let client = Client::builder()
            .http1_only()
            .no_gzip()
            .connect_timeout(CONNECT_TIMEOUT.min(config.read_timeout))
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| wrong("endpoint", &format!("no HTTP client: {}", innermost(&error))))?;
        let tokens = Tokens::open(config, client.clone(), folder)?;
        Ok(Self { config: config.clone(), client, tokens })
    }

    /// Opens a stream. A token that is refused is made anew, once.
    pub(super) async fn connect(&self, reset: Option<Reset>) -> Result<Opened, Failure> {
        let token = self.tokens.get(None).await?;
        let response = match self.follow(&token, reset).await? {
            Ok(response) => response,
            Err(first) => {
                debug!(said = %first, "the token was refused; asking for a new one");
                let token = self.tokens.get(Some(&token)).await?;
                self.follow(&token, reset).await??
            }
        };
        let encoding = response.headers().get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        match encoding.map(str::trim) {
            None | Some("" | "identity") => Ok(Opened { response, is_gzip: false, reset }),
            Some("gzip" | "x-gzip") => Ok(Opened { response, is_gzip: true, reset }),
            Some(_) => Err(failures::refused(
                "Livestream's answer is in an encoding that was not asked for: is a proxy in between?",
            )),
        }
    }

    /// Asks, also where it is sent to. The inner error is a refused token.
    async fn follow(
        &self,
        token: &Secret,
        reset: Option<Reset>,
    ) -> Result<Result<Response, Failure>, Failure> {
        let mut url = self.config.url(reset).map_err(|error| failures::refused(error.to_string()))?;
        for _ in 0..=REDIRECTS_MAX {
            match self.ask(&url, token).await? {
                Step::Opened(response) => return Ok(Ok(response)),
                Step::Unauthorized(failure) => return Ok(Err(failure)),
                Step::Moved(to) => url = to,
            }
        }
        Err(failures::not_done(format!(
            "Livestream redirects more than {REDIRECTS_MAX} times: asked again later"
        )))
    }

    /// One request. Every host gets the token and what we take, which HTTP
    /// clients do not give to another host by themselves.
    async fn ask(&self, url: &Url, token: &Secret) -> Result<Step, Failure> {
        let host = url.host_str().unwrap_or_default();
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| failures::refused("the token has characters that no header can carry"))?;
        bearer.set_sensitive(true);
        let request = self
            .client
            .get(url.clone())
            .header(AUTHORIZATION, bearer)
            .header("x-api-key", &self.config.client_id)
            .header(ACCEPT_ENCODING, "gzip");
        let limit = self.config.read_timeout;
        let response = match timeout(limit, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let why = innermost(&error).replace(token.expose(), "…");
                return Err(Failure::new(FailureKind::Unknown, format!("{host} cannot be reached: {why}")));
            }
            Err(_) => {
                return Err(Failure::new(
                    FailureKind::Unknown,
                    format!("no answer from {host} within {}s", limit.as_secs_f32()),
                ));
            }
        };
        let status = response.status().as_u16();
        match status {
            200 => return Ok(Step::Opened(response)),
            301 | 302 | 303 | 307 | 308 => return self.moved(url, &response).map(Step::Moved),
            _ => {}
        }
        let wait = reply::retry_after(response.headers());
        let said = reply::said(response, ERROR_BYTES_MAX).await;
        let said = reply::reason(&said, &[token, &self.config.client_secret]);
        let failure = failures::of_status(status, &said, wait);
        if status == 401 {
            return Ok(Step::Unauthorized(failure));
        }
        Err(failure)
    }

    fn moved(&self, from: &Url, response: &Response) -> Result<Url, Failure> {
        let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let Some(to) = location.and_then(|to| from.join(to).ok()) else {
            return Err(failures::not_done("Livestream redirects to nowhere: asked again later"));
        };
        // Only the host is told: the rest may hold anything.
        self.config.may_be_told(&to).map_err(|_| {
            failures::refused(format!(
                "Livestream redirects to {:?} without TLS, which would show the token: not followed",
                to.host_str().unwrap_or_default()
            ))
        })?;
        Ok(to)
    }
}
