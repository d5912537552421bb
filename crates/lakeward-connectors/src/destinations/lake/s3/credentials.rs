//! AWS credentials as `object_store` asks for them.

use std::sync::Arc;

use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use crate::aws_access::AwsAccess;
use crate::aws_credentials::AwsCredentials;

/// The credentials of a lake.
#[derive(Debug)]
pub(super) struct Credentials(AwsCredentials);

impl Credentials {
    pub(super) fn new(access: &AwsAccess) -> Self {
        Self(access.credentials())
    }
}

#[async_trait::async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let found = self
            .0
            .fetch()
            .await
            .map_err(|missing| object_store::Error::Generic { store: "S3", source: missing.into() })?;
        Ok(Arc::new(AwsCredential {
            key_id: found.access_key_id().into(),
            secret_key: found.secret_access_key().into(),
            token: found.session_token().map(Into::into),
        }))
    }
}
