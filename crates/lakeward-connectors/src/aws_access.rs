//! How a service of AWS is reached: where it is, and as whom.

use lakeward_model::Secret;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::aws_credentials::{AwsCredentials, Identity};

/// Where a service of AWS is, and as whom it is asked. Its keys stand among
/// those of the connector; none of them means AWS's own defaults.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AwsAccess {
    /// The service's address, if it is not AWS: `https://host:port`. Default:
    /// `AWS_ENDPOINT_URL_<SERVICE>` or `AWS_ENDPOINT_URL`, else AWS's for the
    /// region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether a plain `http://` address may be another machine.
    pub allow_http: bool,
    /// The region. Default: the one in an ARN that is given, else `AWS_REGION`
    /// or `AWS_DEFAULT_REGION`, else `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A profile of the AWS configuration files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A role to assume with the credentials found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// An access key. Default: AWS's usual places (environment, profile, web
    /// identity, container, instance).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Its secret; better as `${ENV}` than in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    /// The session token of a temporary access key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
}

/// A setting that cannot be used; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub(crate) struct AwsAccessError {
    /// Its name, a field of [`AwsAccess`].
    pub(crate) setting: &'static str,
    /// What is wrong with it.
    pub(crate) problem: String,
}

impl AwsAccess {
    /// Checks all that can be checked without asking anyone.
    ///
    /// # Errors
    /// See [`AwsAccessError`].
    pub(crate) fn check(&self) -> Result<(), AwsAccessError> {
        self.check_key()?;
        if let Some(region) = &self.region {
            check_region(region)?;
        }
        self.check_endpoint()
    }

    /// Checks that an access key is whole, and the only thing that says who we
    /// are.
    ///
    /// # Errors
    /// See [`AwsAccessError`].
    pub(crate) fn check_key(&self) -> Result<(), AwsAccessError> {
        let wrong = |setting, problem: &str| Err(AwsAccessError { setting, problem: problem.into() });
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return wrong("access_key_id", "give both access_key_id and secret_access_key, or neither");
        }
        if self.access_key_id.is_some() && self.profile.is_some() {
            return wrong("profile", "not together with access_key_id");
        }
        Ok(())
    }

    /// Checks that the endpoint is an address that may be called.
    ///
    /// # Errors
    /// See [`AwsAccessError`].
    pub(crate) fn check_endpoint(&self) -> Result<(), AwsAccessError> {
        match &self.endpoint {
            Some(endpoint) => self.address(endpoint).map(|_| ()),
            None => Ok(()),
        }
    }

    /// The region to sign for.
    pub(crate) fn region(&self) -> String {
        self.region
            .clone()
            .or_else(|| environment("AWS_REGION"))
            .or_else(|| environment("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|| String::from("us-east-1"))
    }

    /// The address that was given for `service` (its signing name), here or in
    /// the environment.
    pub(crate) fn endpoint_of(&self, service: &str) -> Option<String> {
        self.endpoint
            .clone()
            .or_else(|| environment(&format!("AWS_ENDPOINT_URL_{}", service.to_ascii_uppercase())))
            .or_else(|| environment("AWS_ENDPOINT_URL"))
    }

    /// The address of `service` (`glue`, `kinesis`, `dynamodb`: its signing
    /// name, which is also its host's).
    ///
    /// # Errors
    /// The region or the address cannot be one.
    pub(crate) fn url(&self, service: &str) -> Result<Url, AwsAccessError> {
        let region = self.region();
        check_region(&region)?;
        match self.endpoint_of(service) {
            Some(endpoint) => self.address(&endpoint),
            None => self.address(&address_of(service, &region)),
        }
    }

    /// Who we are; asks nobody yet.
    pub(crate) fn credentials(&self) -> AwsCredentials {
        let key = self.access_key_id.clone().zip(self.secret_access_key.clone());
        AwsCredentials::new(Identity {
            key: key.map(|(id, secret)| (id, secret, self.session_token.clone())),
            profile: self.profile.clone(),
            role_arn: self.role_arn.clone(),
            region: self.region(),
        })
    }

    fn address(&self, text: &str) -> Result<Url, AwsAccessError> {
        let wrong = |problem: &str| Err(AwsAccessError { setting: "endpoint", problem: problem.into() });
        let Ok(url) = Url::parse(text) else { return wrong("not an address such as https://host:port") };
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("no user or password in the address");
        }
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.allow_http || is_loopback(&url) => Ok(url),
            "http" => wrong("plain http to another machine: use https, or set allow_http: true"),
            _ => wrong("starts with https:// (or http://)"),
        }
    }
}

/// AWS's own address (AWS General Reference, "AWS service endpoints"; China
/// has a domain of its own).
pub(crate) fn address_of(service: &str, region: &str) -> String {
    let end = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{service}.{region}.amazonaws.com{end}/")
}

/// # Errors
/// The text cannot be a region's name.
pub(crate) fn check_region(text: &str) -> Result<(), AwsAccessError> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(());
    }
    Err(AwsAccessError { setting: "region", problem: "a region such as eu-west-1".into() })
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address_of("glue", "eu-west-1"), "https://glue.eu-west-1.amazonaws.com/");
        assert_eq!(address_of("kinesis", "cn-north-1"), "https://kinesis.cn-north-1.amazonaws.com.cn/");
        let check = |endpoint: &str, allow_http, expect: Option<&str>| {
            let access = AwsAccess { endpoint: Some(endpoint.into()), allow_http, ..Default::default() };
            let url = access.check().and_then(|()| access.url("glue"));
            assert_eq!(url.ok().as_ref().map(Url::as_str), expect, "{endpoint}");
        };
        check("http://127.0.0.1:5000", false, Some("http://127.0.0.1:5000/"));
        check("http://[::1]:5000/", false, Some("http://[::1]:5000/"));
        check("http://moto:5000", false, None);
        check("http://moto:5000", true, Some("http://moto:5000/"));
        check(
            "https://vpce-1.glue.eu-west-1.vpce.amazonaws.com",
            false,
            Some("https://vpce-1.glue.eu-west-1.vpce.amazonaws.com/"),
        );
        check("https://u:p@host", false, None);
        check("ftp://host", false, None);
        check("host:1", false, None);
    }

    #[test]
    fn settings_that_do_not_fit_say_so() {
        let check = |change: fn(&mut AwsAccess), expect: Option<&str>| {
            let mut access = AwsAccess::default();
            change(&mut access);
            assert_eq!(access.check().err().map(|error| error.setting), expect);
        };
        check(|_| {}, None);
        check(|a| a.access_key_id = Some("a".into()), Some("access_key_id"));
        check(|a| a.region = Some("eu west".into()), Some("region"));
        check(
            |a| {
                a.access_key_id = Some("a".into());
                a.secret_access_key = Some(Secret::new("b"));
                a.profile = Some("p".into());
            },
            Some("profile"),
        );
    }
}
