//! Where AWS credentials come from: the configuration's own key, or AWS's usual
//! places, and perhaps a role that is assumed with them.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls;
use lakeward_model::Secret;
use lakeward_model::clock::{Clock, SystemClock};
use tokio::sync::Mutex;

/// Credentials are fetched anew this long before they end.
const EARLY: Duration = Duration::from_secs(300);

/// What a configuration says of who we are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    /// An access key with its secret, and perhaps a session token.
    pub(crate) key: Option<(String, Secret, Option<Secret>)>,
    /// A profile of the AWS configuration files.
    pub(crate) profile: Option<String>,
    /// A role to assume with the credentials found.
    pub(crate) role_arn: Option<String>,
    /// Where to ask for it.
    pub(crate) region: String,
}

/// Finds credentials on first use and keeps them until they end.
pub(crate) struct AwsCredentials {
    identity: Identity,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    provider: Option<SharedCredentialsProvider>,
    current: Option<Credentials>,
}

/// No credentials could be had.
#[derive(Debug, thiserror::Error)]
#[error("there are no usable AWS credentials: {message}")]
pub(crate) struct NoCredentials {
    message: String,
    /// Whether asking again may help.
    pub(crate) temporary: bool,
}

impl AwsCredentials {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, state: Mutex::default() }
    }

    /// The configured key or profile, else AWS's default chain; with the role
    /// assumed, if there is one.
    async fn provider(&self) -> Result<SharedCredentialsProvider, NoCredentials> {
        // TLS is rustls with ring, as in the whole product.
        let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
        let base = match (&self.identity.key, &self.identity.profile) {
            (Some((id, secret, token)), _) => {
                let token = token.as_ref().map(|token| token.expose().to_string());
                let key = Credentials::new(id, secret.expose(), token, None, "configuration");
                Some(SharedCredentialsProvider::new(key))
            }
            (None, Some(profile)) => {
                let places = ProviderConfig::without_region()
                    .with_http_client(http.clone())
                    .with_region(Some(Region::new(self.identity.region.clone())));
                let files =
                    ProfileFileCredentialsProvider::builder().configure(&places).profile_name(profile);
                Some(SharedCredentialsProvider::new(files.build()))
            }
            (None, None) => None,
        };
        if let (Some(base), None) = (&base, &self.identity.role_arn) {
            return Ok(base.clone());
        }
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new(self.identity.region.clone()));
        if let Some(base) = base {
            loader = loader.credentials_provider(base);
        }
        let sdk = loader.load().await;
        let found = sdk.credentials_provider().ok_or_else(|| NoCredentials {
            message: String::from("none are configured"),
            temporary: false,
        })?;
        let Some(role) = &self.identity.role_arn else { return Ok(found) };
        let assumed = AssumeRoleProvider::builder(role)
            .session_name("lakeward")
            .region(Region::new(self.identity.region.clone()))
            .configure(&sdk)
            .build_from_provider(found)
            .await;
        Ok(SharedCredentialsProvider::new(assumed))
    }

    /// Credentials that hold for a while yet.
    ///
    /// # Errors
    /// There are none, or they could not be fetched now.
    pub(crate) async fn fetch(&self) -> Result<Credentials, NoCredentials> {
        let mut state = self.state.lock().await;
        let now = UNIX_EPOCH + Duration::from_micros(SystemClock.now().micros().try_into().unwrap_or(0));
        if let Some(current) = &state.current
            && current.expiry().is_none_or(|ends| now + EARLY <= ends)
        {
            return Ok(current.clone());
        }
        if state.provider.is_none() {
            state.provider = Some(self.provider().await?);
        }
        let provider = state.provider.as_ref().expect("it was just set");
        let fetched = provider.provide_credentials().await.map_err(|error| NoCredentials::from(&error))?;
        state.current = Some(fetched.clone());
        Ok(fetched)
    }

    /// Forgets what was fetched: the service says that it ran out.
    pub(crate) async fn forget(&self) {
        *self.state.lock().await = State::default();
    }
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCredentials")
            .field("profile", &self.identity.profile)
            .field("role_arn", &self.identity.role_arn)
            .finish_non_exhaustive()
    }
}

impl From<&CredentialsError> for NoCredentials {
    fn from(error: &CredentialsError) -> Self {
        let temporary = !matches!(
            error,
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
        );
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self { message, temporary }
    }
}
