//! AWS credentials as `object_store` asks for them.

use std::sync::Arc;

use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use super::LakeConfig;
use crate::aws_credentials::{AwsCredentials, Identity};

/// The credentials of a lake.
#[derive(Debug)]
pub(super) struct Credentials(AwsCredentials);

impl Credentials {
    pub(super) fn new(config: &LakeConfig, region: &str) -> Self {
        let key = config.access_key_id.clone().zip(config.secret_access_key.clone());
        Self(AwsCredentials::new(Identity {
            key: key.map(|(id, secret)| (id, secret, config.session_token.clone())),
            profile: config.profile.clone(),
            role_arn: config.role_arn.clone(),
            region: region.into(),
        }))
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
