//! The access token: had by the OAuth 2.0 client credentials grant (RFC 6749,
//! 4.4; Adobe calls it "OAuth Server-to-Server"), kept in a file that several
//! instances may share, and made anew before it expires.
//!
//! The instance that first finds the token old takes the lock beside the file
//! and asks; the others find the new one in the file. Each has its own idea of
//! old, somewhere between 80 and 95 % of its life.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::{Failure, FailureKind, Secret, Timestamp, innermost};
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{info, warn};

use super::config::{AdobeLivestreamConfig, AdobeLivestreamConfigError};
use super::{failures, reply};

/// The longest that a token is used: Adobe's tokens live for 24 hours, and its
/// documentation advises a new one after 23. It also tames an `expires_in` in
/// milliseconds, as credentials of the JWT kind had it.
const LIFE_MAX: Duration = Duration::from_secs(23 * 3_600);
/// How long the whole request for a token may take.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How long to wait for another instance that asks for a token, which takes it
/// no longer than a request may.
const LOCK_MAX: Duration = Duration::from_secs(45);
const LOCK_EVERY: Duration = Duration::from_millis(50);
/// A file that is larger is none of ours.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where tokens come from.
pub(super) struct Tokens {
    client: Client,
    url: Url,
    client_id: String,
    client_secret: Secret,
    scopes: String,
    file: PathBuf,
    /// The share of a token's life after which it is old to us.
    old_at: f64,
    /// Held while a token is made, so that one is made at a time.
    known: Mutex<Option<Token>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.url)
    }
}

/// A token, as the file has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Token {
    access_token: Secret,
    /// Microseconds since 1970.
    obtained_at: i64,
    expires_at: i64,
    /// For whom: another credential, service or set of scopes does not take it.
    of: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: Secret,
    expires_in: u64,
}

impl Tokens {
    pub(super) fn open(
        config: &AdobeLivestreamConfig,
        client: Client,
        folder: &Path,
    ) -> Result<Self, AdobeLivestreamConfigError> {
        Ok(Self {
            client,
            url: config.token_url()?,
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            scopes: config.scopes.split(',').map(str::trim).collect::<Vec<_>>().join(","),
            file: config.token_file.clone().unwrap_or_else(|| folder.join("token")),
            old_at: 0.80 + 0.15 * failures::chance(),
            known: Mutex::new(None),
        })
    }

    /// A token that is not old, and not the one that was `refused`.
    ///
    /// # Errors
    /// None can be had; a token that is old but not expired is given before
    /// that is said.
    pub(super) async fn get(&self, refused: Option<&Secret>) -> Result<Secret, Failure> {
        let mut known = self.known.lock().await;
        if let Some(token) = known.as_ref().filter(|token| self.is_fresh(token, refused)) {
            return Ok(token.access_token.clone());
        }
        // Perhaps another instance was quicker, also while we wait for the lock.
        let mut stored = self.stored().await;
        if !stored.as_ref().is_some_and(|token| self.is_fresh(token, refused)) {
            let lock = self.lock().await;
            stored = self.stored().await;
            if !stored.as_ref().is_some_and(|token| self.is_fresh(token, refused)) {
                match self.request().await {
                    Ok(token) => {
                        self.store(&token).await;
                        stored = Some(token);
                    }
                    Err(failure) => {
                        let old = [known.as_ref(), stored.as_ref()];
                        let usable = |token: &&Token| self.is_usable(token, refused);
                        let Some(old) = old.into_iter().flatten().find(usable) else { return Err(failure) };
                        warn!(error = %failure, "no new token yet; the old one is still good");
                        return Ok(old.access_token.clone());
                    }
                }
            }
            drop(lock);
        }
        *known = stored;
        known.as_ref().map(|token| token.access_token.clone()).ok_or_else(|| failures::not_done("no token"))
    }

    /// A new token, however good the one is that is there.
    ///
    /// # Errors
    /// None can be had.
    pub(super) async fn renew(&self) -> Result<(), Failure> {
        let mut known = self.known.lock().await;
        let token = self.request().await?;
        self.store(&token).await;
        *known = Some(token);
        Ok(())
    }

    /// Whether a new token should be asked for although the connection stands.
    pub(super) async fn is_old(&self) -> bool {
        self.known.lock().await.as_ref().is_some_and(|token| !self.is_fresh(token, None))
    }

    fn is_usable(&self, token: &Token, refused: Option<&Secret>) -> bool {
        let now = SystemClock.now().micros();
        token.of == self.of()
            && refused != Some(&token.access_token)
            // A clock that was set back makes every token new for ever.
            && (token.obtained_at..token.expires_at).contains(&now)
    }

    fn is_fresh(&self, token: &Token, refused: Option<&Secret>) -> bool {
        let life = token.expires_at.saturating_sub(token.obtained_at);
        let old = token.obtained_at.saturating_add((life as f64 * self.old_at) as i64);
        self.is_usable(token, refused) && SystemClock.now().micros() < old
    }

    fn of(&self) -> String {
        format!("{} {} {}", self.url, self.client_id, self.scopes)
    }

    async fn request(&self) -> Result<Token, Failure> {
        let asked = SystemClock.now();
        match timeout(REQUEST_MAX, self.ask(asked)).await {
            Ok(answered) => answered,
            Err(_) => Err(Failure::new(
                FailureKind::NotDone,
                format!("no token: no answer from {} within {}s", self.host(), REQUEST_MAX.as_secs()),
            )),
        }
    }

    async fn ask(&self, asked: Timestamp) -> Result<Token, Failure> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose()),
            ("scope", &self.scopes),
        ];
        let body = serialized(&form);
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(body);
        let answer = request.send().await.map_err(|error| {
            failures::not_done(format!("no token: {} cannot be reached: {}", self.host(), innermost(&error)))
        })?;
        let status = answer.status();
        let wait = reply::retry_after(answer.headers());
        let said = reply::said(answer, FILE_BYTES_MAX as usize).await;
        if !status.is_success() {
            let said = reply::reason(&said, &[&self.client_secret]);
            return Err(failures::of_token_status(status.as_u16(), &said, wait));
        }
        let strange = |what: &str| {
            Failure::new(
                FailureKind::Unknown,
                format!("no token: the answer of {} {what}: check token_url", self.host()),
            )
        };
        let granted: Granted = serde_json::from_slice(&said)
            .map_err(|_| strange("is not the JSON of a token (access_token, expires_in)"))?;
        let text = granted.access_token.expose();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(strange("has a token that no header can carry"));
        }
        let life = Duration::from_secs(granted.expires_in).min(LIFE_MAX);
        info!(expires_in_s = granted.expires_in, "a new token");
        let micros = i64::try_from(life.as_micros()).unwrap_or(i64::MAX);
        Ok(Token {
            access_token: granted.access_token,
            obtained_at: asked.micros(),
            expires_at: asked.micros().saturating_add(micros),
            of: self.of(),
        })
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// What the file has; nothing if it cannot be read.
    async fn stored(&self) -> Option<Token> {
        let file = self.file.clone();
        let read = move || {
            let mut text = Vec::new();
            lakeward_model::limits::read_capped(std::fs::File::open(file).ok()?, FILE_BYTES_MAX, &mut text)
                .ok()?;
            serde_json::from_slice(&text).ok()
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Others find it from now on, whole or not at all.
    async fn store(&self, token: &Token) {
        let (file, text) = (self.file.clone(), serde_json::to_vec(token).expect("plain data"));
        let written = tokio::task::spawn_blocking(move || write(&file, &text)).await;
        let failed = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let file = self.file.display();
        warn!(%file, error = failed, "the token cannot be kept in its file; others ask for their own");
    }

    /// Waits until no other instance asks for a token. Where there can be no
    /// lock, or another holds it for too long, two may ask, which is no harm.
    async fn lock(&self) -> Option<std::fs::File> {
        let file = self.file.with_extension("lock");
        let waited = timeout(LOCK_MAX, async {
            loop {
                let path = file.clone();
                let tried = tokio::task::spawn_blocking(move || try_lock(&path)).await.ok()?;
                match tried {
                    Ok(Some(held)) => return Some(held),
                    Ok(None) => tokio::time::sleep(LOCK_EVERY).await,
                    Err(error) => {
                        warn!(file = %file.display(), %error, "cannot be locked; others may ask for a token too");
                        return None;
                    }
                }
            }
        });
        waited.await.ok().flatten()
    }
}

/// A form's body (WHATWG URL, "application/x-www-form-urlencoded serializing").
fn serialized(form: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form/").expect("a constant");
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_string()
}

/// The lock, or nothing if another has it.
fn try_lock(path: &Path) -> std::io::Result<Option<std::fs::File>> {
    use std::os::unix::fs::OpenOptionsExt;
    make_folder(path)?;
    let mut options = std::fs::File::options();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn make_folder(file: &Path) -> std::io::Result<()> {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder),
        _ => Ok(()),
    }
}

fn write(file: &Path, text: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    make_folder(file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made for its owner only (tempfile's documentation: mode 0600).
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(text)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_with_any_character_stay_whole_in_a_form() {
        let body = serialized(&[("client_secret", "a+b/c=&d é"), ("scope", "openid,AdobeID")]);
        assert_eq!(body, "client_secret=a%2Bb%2Fc%3D%26d+%C3%A9&scope=openid%2CAdobeID");
    }

    #[test]
    fn the_file_is_its_owners_only_and_has_the_token_or_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sources/acme/token");
        write(&file, b"one").unwrap();
        write(&file, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_lock_is_had_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.lock");
        let held = try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }
}
