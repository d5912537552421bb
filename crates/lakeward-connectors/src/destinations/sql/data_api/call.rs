//! Calls of the service, made again where that is safe, and what their errors
//! mean.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{DataApi, Submitted};
use crate::aws_json::AwsError;
use crate::destinations::sql::error::SqlError;

/// How often a call is made before the caller hears of it.
const TRIES: u32 = 5;
/// The pause before the second of them; it doubles.
const PAUSE: Duration = Duration::from_millis(200);

impl DataApi {
    /// Hands in statements; their identifier. The same client token goes with
    /// every try, so that they run once whichever of the answers is lost.
    ///
    /// # Errors
    /// [`SqlError::Unknown`] if they may run.
    pub(super) async fn submit(&self, operation: &str, request: &Value) -> Result<String, SqlError> {
        let mut may_run = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match Box::pin(self.aws.call::<_, Submitted>(operation, request)).await {
                Ok(submitted) => return Ok(submitted.id),
                Err(error) => error,
            };
            may_run |= matches!(error, AwsError::Unknown(_));
            if tries == TRIES || matches!(error, AwsError::Answered(_)) {
                return Err(match meaning(error) {
                    SqlError::Lost(what) | SqlError::Unusable(what) if may_run => SqlError::Unknown(what),
                    other => other,
                });
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
        }
    }

    /// Makes a call that may be made twice.
    pub(super) async fn ask<O: DeserializeOwned>(
        &self,
        operation: &str,
        request: &Value,
    ) -> Result<O, SqlError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match Box::pin(self.aws.call(operation, request)).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            if tries == TRIES || matches!(error, AwsError::Answered(_)) {
                return Err(meaning(error));
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
        }
    }
}

/// What an error of a call means, with what a person can do about it.
fn meaning(error: AwsError) -> SqlError {
    let what = error.to_string();
    let message = error.problem().message.to_lowercase();
    match error {
        AwsError::Passing(_) => return SqlError::Lost(what),
        AwsError::Unknown(_) => return SqlError::Unknown(what),
        AwsError::Answered(_) => {}
    }
    let code = error.code();
    let is_busy = matches!(
        code,
        "ActiveStatementsExceededException"
            | "ActiveSessionsExceededException"
            | "ActiveWaitingRequestsExceededException"
            | "QueryTimeoutException"
    );
    // A warehouse that is asleep, or just being changed.
    let is_away =
        ["paused", "resum", "not available", "unavailable"].iter().any(|word| message.contains(word));
    if is_busy || is_away && code == "ValidationException" {
        return SqlError::Lost(what);
    }
    let hint = match code {
        "AccessDeniedException" => {
            "give the identity the rights that docs/redshift.md names under \"The Data API\""
        }
        "ValidationException" | "ResourceNotFoundException" if message.contains("secret") => {
            "see data_api.secret_arn"
        }
        "ValidationException" | "ResourceNotFoundException" => {
            "see data_api.workgroup, data_api.cluster, database and data_api.region"
        }
        "InvalidSignatureException"
        | "UnrecognizedClientException"
        | "MissingAuthenticationTokenException" => {
            "see data_api.access_key_id, or the credentials of this machine"
        }
        _ => return SqlError::Unusable(what),
    };
    SqlError::Unusable(format!("{what}: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws_json::AwsProblem;

    #[test]
    fn what_answers_mean() {
        let check = |code: &str, message: &str, waits: bool, hint: &str| {
            let problem = AwsProblem {
                call: "redshift-data ExecuteStatement".into(),
                status: Some(400),
                code: code.into(),
                message: message.into(),
                retry_after: None,
            };
            let error = meaning(AwsError::Answered(problem));
            assert_eq!(matches!(error, SqlError::Lost(_)), waits, "{error}");
            assert!(error.to_string().contains(hint), "{error}");
        };
        check("ActiveStatementsExceededException", "", true, "");
        check("ActiveSessionsExceededException", "", true, "");
        check("ValidationException", "Redshift cluster is paused", true, "");
        check(
            "ValidationException",
            "Redshift endpoint doesn't exist in this region.",
            false,
            "data_api.workgroup",
        );
        check("ResourceNotFoundException", "can't find the specified secret", false, "data_api.secret_arn");
        check("AccessDeniedException", "", false, "rights");
        check("UnrecognizedClientException", "", false, "data_api.access_key_id");
    }
}
