//! What the store really answered: status, `Retry-After`, or how the
//! connection failed. `object_store` hides it inside its errors.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

tokio::task_local! {
    static REPLY: RefCell<Reply>;
}

/// The last bad answer while something was done; empty if there was none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// The HTTP status, if it was an error.
    pub(crate) status: Option<u16>,
    /// How long the store asked us to wait.
    pub(crate) retry_after: Option<Duration>,
    /// How the connection failed.
    pub(crate) broken: Option<HttpErrorKind>,
}

/// Runs `work` and notes what the store answers meanwhile.
pub(crate) async fn watch<T>(work: impl Future<Output = T>) -> (T, Reply) {
    REPLY
        .scope(RefCell::default(), async {
            let result = work.await;
            (result, REPLY.with(RefCell::take))
        })
        .await
}

/// Makes clients that note what they are answered.
#[derive(Debug)]
pub(crate) struct WatchedConnector;

impl HttpConnector for WatchedConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        ReqwestConnector::default().connect(options).map(|client| HttpClient::new(Watched(client)))
    }
}

#[derive(Debug)]
struct Watched(HttpClient);

#[async_trait::async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.0.execute(request).await;
        let noted = match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(Reply {
                status: Some(response.status().as_u16()),
                retry_after: response
                    .headers()
                    .get("retry-after")
                    .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                    .map(Duration::from_secs),
                broken: None,
            }),
            Err(error) => Some(Reply { broken: Some(error.kind()), ..Reply::default() }),
        };
        if let Some(reply) = noted {
            // Nobody watches when an upload is aborted.
            let _ = REPLY.try_with(|place| place.replace(reply));
        }
        answer
    }
}
