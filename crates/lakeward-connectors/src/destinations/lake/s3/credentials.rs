//! Where S3 credentials come from: the configuration's own key, or AWS's usual
//! places, and perhaps a role that is assumed with them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls;
use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::{Secret, Timestamp};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;

use super::LakeConfig;

/// Credentials are fetched anew this long before they end.
const EARLY: Duration = Duration::from_secs(300);

/// Finds credentials on first use and keeps them until they end.
pub(super) struct Credentials {
    key: Option<(String, Secret, Option<Secret>)>,
    profile: Option<String>,
    role_arn: Option<String>,
    region: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    provider: Option<SharedCredentialsProvider>,
    current: Option<(Arc<AwsCredential>, Option<Timestamp>)>,
}

/// No credentials could be had.
#[derive(Debug, thiserror::Error)]
#[error("there are no usable AWS credentials: {message}")]
pub(super) struct NoCredentials {
    message: String,
    /// Whether asking again may help.
    pub(super) temporary: bool,
}

impl Credentials {
    pub(super) fn new(config: &LakeConfig, region: &str) -> Self {
        let key = config.access_key_id.clone().zip(config.secret_access_key.clone());
        Self {
            key: key.map(|(id, secret)| (id, secret, config.session_token.clone())),
            profile: config.profile.clone(),
            role_arn: config.role_arn.clone(),
            region: region.into(),
            state: Mutex::default(),
        }
    }

    /// The configured key or profile, else AWS's default chain; with the role
    /// assumed, if there is one.
    async fn provider(&self) -> Result<SharedCredentialsProvider, NoCredentials> {
        // TLS is rustls with ring, as in the whole product.
        let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
        let base = match (&self.key, &self.profile) {
            (Some((id, secret, token)), _) => {
                let token = token.as_ref().map(|token| token.expose().to_string());
                let key = AwsCredentials::new(id, secret.expose(), token, None, "configuration");
                Some(SharedCredentialsProvider::new(key))
            }
            (None, Some(profile)) => {
                let places = ProviderConfig::without_region()
                    .with_http_client(http.clone())
                    .with_region(Some(Region::new(self.region.clone())));
                let files =
                    ProfileFileCredentialsProvider::builder().configure(&places).profile_name(profile);
                Some(SharedCredentialsProvider::new(files.build()))
            }
            (None, None) => None,
        };
        if let (Some(base), None) = (&base, &self.role_arn) {
            return Ok(base.clone());
        }
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new(self.region.clone()));
        if let Some(base) = base {
            loader = loader.credentials_provider(base);
        }
        let sdk = loader.load().await;
        let found = sdk.credentials_provider().ok_or_else(|| NoCredentials {
            message: String::from("none are configured"),
            temporary: false,
        })?;
        let Some(role) = &self.role_arn else { return Ok(found) };
        let assumed = AssumeRoleProvider::builder(role)
            .session_name("lakeward")
            .region(Region::new(self.region.clone()))
            .configure(&sdk)
            .build_from_provider(found)
            .await;
        Ok(SharedCredentialsProvider::new(assumed))
    }

    async fn fetch(&self) -> Result<Arc<AwsCredential>, NoCredentials> {
        let mut state = self.state.lock().await;
        let now = SystemClock.now();
        if let Some((current, ends)) = &state.current
            && ends.is_none_or(|ends| now.0 + EARLY.as_micros() as i64 <= ends.0)
        {
            return Ok(Arc::clone(current));
        }
        if state.provider.is_none() {
            state.provider = Some(self.provider().await?);
        }
        let provider = state.provider.as_ref().expect("it was just set");
        let fetched = provider.provide_credentials().await.map_err(|error| NoCredentials::from(&error))?;
        let ends = fetched.expiry().map(|at| {
            let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
        });
        let current = Arc::new(AwsCredential {
            key_id: fetched.access_key_id().into(),
            secret_key: fetched.secret_access_key().into(),
            token: fetched.session_token().map(Into::into),
        });
        state.current = Some((Arc::clone(&current), ends));
        Ok(current)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("profile", &self.profile)
            .field("role_arn", &self.role_arn)
            .finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.fetch()
            .await
            .map_err(|missing| object_store::Error::Generic { store: "S3", source: missing.into() })
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
