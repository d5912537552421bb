//! One request of the Export API, and its body onto the disk.
//!
//! Only the status is looked at: error bodies are documented nowhere (contract,
//! §1.2). The keys go to the one address that is configured; redirections are
//! not followed.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use lakeward_model::{Failure, FailureKind, Secret, Timestamp, innermost};
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Client, Response, Url, redirect};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::time::timeout;

use super::config::{AmplitudeConfig, AmplitudeConfigError};
use super::failures::{self, Miss, Stage};
use super::hours::Window;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait that the other side may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Bytes that are collected before they are written.
const BUFFER: usize = 1 << 20;
/// The most bytes that are read of an answer that is an error.
const ERROR_BYTES_MAX: usize = 4 << 10;

/// The API of one project.
pub(super) struct Export {
    client: Client,
    url: Url,
    /// Whether the address is one of Amplitude's own.
    ours: bool,
    api_key: Secret,
    secret_key: Secret,
    read_timeout: Duration,
    archive_max: u64,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Export({})", self.url)
    }
}

/// What a window holds.
pub(super) enum Answer {
    /// An archive, in this body.
    Archive(Response),
    /// No events at all.
    Empty,
}

impl Export {
    pub(super) fn open(config: &AmplitudeConfig) -> Result<Self, AmplitudeConfigError> {
        // No limit for the whole: an archive has up to 4 GB.
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(config.read_timeout))
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| AmplitudeConfigError {
                setting: "endpoint",
                problem: format!("no HTTP client: {}", innermost(&error)),
            })?;
        Ok(Self {
            client,
            url: config.url()?,
            ours: config.endpoint.is_none(),
            api_key: config.api_key.clone(),
            secret_key: config.secret_key.clone(),
            read_timeout: config.read_timeout,
            archive_max: config.archive_max,
        })
    }

    /// Asks for a window once; `now` is for what the other side says of times.
    pub(super) async fn ask(&self, window: Window, now: Timestamp) -> Result<Answer, Miss> {
        let request = self
            .client
            .get(self.url.clone())
            // Both ends are included.
            .query(&[("start", window.first.query()), ("end", window.last().query())])
            .basic_auth(self.api_key.expose(), Some(self.secret_key.expose()))
            .send();
        let answer = match timeout(self.read_timeout, request).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_connect() => return Err(self.unreachable(&error)),
            Ok(Err(error)) if error.is_timeout() => return Err(self.silent(window)),
            Ok(Err(error)) => return Err(self.unreachable(&error)),
            Err(_) => return Err(self.silent(window)),
        };
        match answer.status().as_u16() {
            200 => Ok(Answer::Archive(answer)),
            404 => self.nothing_there(answer).await,
            _ => Err(self.refused(window, answer, now).await),
        }
    }

    /// Writes an archive's body to a new file and makes it durable. Answers how
    /// many bytes it has.
    pub(super) async fn save(&self, mut body: Response, window: Window, path: &Path) -> Result<u64, Miss> {
        let declared = body.content_length();
        if declared.is_some_and(|length| length > self.archive_max) {
            return Err(failures::over_archive_max(window, self.archive_max));
        }
        let spool = |error: std::io::Error| Miss::Failed(failures::spool(Stage::Write, &error));
        let file = File::create_new(path).await.map_err(spool)?;
        let mut file = BufWriter::with_capacity(BUFFER, file);
        let (mut length, mut first) = (0_u64, Vec::new());
        loop {
            let chunk = match timeout(self.read_timeout, body.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => {
                    let why = innermost(&error.without_url());
                    return Err(failures::cut(window, length, &why));
                }
                Err(_) => {
                    let why = format!("nothing came for {}s", self.read_timeout.as_secs_f32());
                    return Err(failures::cut(window, length, &why));
                }
            };
            length += chunk.len() as u64;
            if length > self.archive_max {
                return Err(failures::over_archive_max(window, self.archive_max));
            }
            if first.len() < 4 {
                first.extend_from_slice(&chunk[..chunk.len().min(64)]);
                if first.len() >= 4 && !first.starts_with(b"PK") {
                    return Err(failures::no_zip(window, &first));
                }
            }
            file.write_all(&chunk).await.map_err(spool)?;
        }
        if first.len() < 4 {
            return Err(failures::no_zip(window, &first));
        }
        if declared.is_some_and(|declared| declared != length) {
            return Err(failures::cut(window, length, "fewer bytes came than were announced"));
        }
        file.flush().await.map_err(spool)?;
        file.into_inner().sync_all().await.map_err(spool)?;
        Ok(length)
    }

    /// 404 is "no data in range". Behind an address that is not Amplitude's it
    /// may as well be a path that is not there.
    async fn nothing_there(&self, answer: Response) -> Result<Answer, Miss> {
        if self.ours {
            return Ok(Answer::Empty);
        }
        let said = self.said(answer).await;
        if said.trim_start().starts_with('<') {
            return Err(failures::no_export_api(&self.url));
        }
        Ok(Answer::Empty)
    }

    async fn refused(&self, window: Window, answer: Response, now: Timestamp) -> Miss {
        let status = answer.status().as_u16();
        let wait = retry_after(answer.headers(), now);
        let elsewhere = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        // Only the host: the rest may hold a key.
        let elsewhere = elsewhere
            .and_then(|to| self.url.join(to).ok())
            .and_then(|to| to.host_str().map(String::from))
            .unwrap_or_default();
        let said = self.said(answer).await;
        failures::of_status(status, window, &said, &elsewhere, wait)
    }

    /// No reply in time: what Amplitude's 504 means, said by nobody.
    fn silent(&self, window: Window) -> Miss {
        failures::slow(window, &format!("no reply within {}s", self.read_timeout.as_secs_f32()), None)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Miss {
        let host = self.url.host_str().unwrap_or_default();
        let message = format!("{host} cannot be reached: {}", self.hidden(&innermost(error)));
        Miss::Failed(Failure::new(FailureKind::Unknown, message))
    }

    /// The beginning of what an error's body says, without our keys.
    async fn said(&self, mut answer: Response) -> String {
        let mut body = Vec::new();
        while let Ok(Ok(Some(chunk))) = timeout(self.read_timeout, answer.chunk()).await {
            let room = ERROR_BYTES_MAX - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() >= ERROR_BYTES_MAX {
                break;
            }
        }
        self.hidden(&String::from_utf8_lossy(&body))
    }

    fn hidden(&self, text: &str) -> String {
        let keys = format!("{}:{}", self.api_key.expose(), self.secret_key.expose());
        let coded = base64_simd::STANDARD.encode_to_string(keys);
        let hidden = [coded.as_str(), self.secret_key.expose(), self.api_key.expose()];
        let text = hidden.iter().fold(text.to_string(), |text, key| text.replace(key, "…"));
        text.chars().filter(|c| !c.is_control() || *c == ' ').take(200).collect()
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            let micros = at.as_microsecond().saturating_sub(now.0);
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_seconds_or_dates() {
        let now = Timestamp(1_772_341_200_000_000);
        let check = |text: &str, expect: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().expect("a header"));
            assert_eq!(retry_after(&headers, now), expect.map(Duration::from_secs), "{text}");
        };
        check("7", Some(7));
        check("0", Some(0));
        check("999999999", Some(3_600));
        check("Sun, 01 Mar 2026 05:00:30 GMT", Some(30));
        check("Sun, 01 Mar 2026 04:00:30 GMT", Some(0));
        check("soon", None);
        check("-1", None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
