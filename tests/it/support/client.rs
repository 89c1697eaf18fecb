//! A client that checks every reply against the API document.

use std::sync::LazyLock;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::document;

/// The sockets of all callers. The client is made once, because it reads the system's certificates.
/// It keeps no socket after a reply, so that a service that stops waits for no idle one.
static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap()
});

/// A caller of the service.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    headers: HeaderMap,
}

/// A reply of the service.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The text of the body.
    pub text: String,
    /// The body as JSON; null if it is none.
    pub body: Value,
}

impl Reply {
    /// Returns the text of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the last part of a problem's `type`.
    pub fn problem(&self) -> &str {
        let kind = self.body["type"].as_str().unwrap_or("none");
        kind.rsplit(':').next().unwrap()
    }

    /// Returns the pointers of a problem's fields.
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }

    /// Returns the reply, which must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

impl Client {
    /// Makes a caller without a token.
    pub fn new(base: &str) -> Self {
        Self { http: HTTP.clone(), base: base.to_owned(), headers: HeaderMap::new() }
    }

    /// Returns the same caller at another service.
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// Returns the same caller with a token.
    pub fn with_token(&self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// Returns the same caller with one more header, in place of one of the same name.
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut caller = self.clone();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        caller.headers.insert(name, HeaderValue::from_str(value).unwrap());
        caller
    }

    /// Returns the same caller with one more header beside those of the same name.
    pub fn with_another_header(&self, name: &str, value: &str) -> Self {
        let mut caller = self.clone();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        caller.headers.append(name, HeaderValue::from_str(value).unwrap());
        caller
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}{path}", self.base)).headers(self.headers.clone())
    }

    /// Sends without a body.
    pub async fn send(&self, method: &str, path: &str) -> Reply {
        receive(method, path, self.request(method, path)).await
    }

    /// Sends JSON.
    pub async fn send_json(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.send_raw(method, path, serde_json::to_vec(body).unwrap()).await
    }

    /// Sends bytes declared as JSON.
    pub async fn send_raw(&self, method: &str, path: &str, body: Vec<u8>) -> Reply {
        let mut request = self.request(method, path).body(body);
        if !self.headers.contains_key("content-type") {
            request = request.header("content-type", "application/json");
        }
        receive(method, path, request).await
    }

    /// GETs a path.
    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path).await
    }

    /// POSTs JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send_json("POST", path, body).await
    }

    /// Asks a question.
    pub async fn query(&self, body: &Value) -> Reply {
        self.post("/api/ai-cache/query", body).await
    }

    /// Asks a question of a service that may be killed meanwhile. Returns `None` if no whole reply
    /// came.
    pub async fn try_ask(&self, query: &str) -> Option<Reply> {
        const PATH: &str = "/api/ai-cache/query";
        let request = self.request("POST", PATH).json(&json!({ "query": query }));
        try_receive("POST", PATH, request).await.ok()
    }

    /// Asks a question in words only.
    pub async fn ask(&self, query: &str) -> Reply {
        self.query(&json!({ "query": query })).await
    }
}

impl Client {
    /// Asks a question without comparing the reply with the document. It is for great numbers, for
    /// which the checks would take longer than the answers.
    pub async fn ask_quickly(&self, query: &str) -> Reply {
        self.query_quickly(&json!({ "query": query })).await
    }

    /// Asks a whole question without comparing the reply with the document.
    pub async fn query_quickly(&self, body: &Value) -> Reply {
        take(self.request("POST", "/api/ai-cache/query").json(body)).await.unwrap()
    }
}

async fn receive(method: &str, path: &str, request: RequestBuilder) -> Reply {
    try_receive(method, path, request).await.unwrap()
}

/// Receives a whole reply, or returns why there is none.
async fn try_receive(
    method: &str,
    path: &str,
    request: RequestBuilder,
) -> Result<Reply, reqwest::Error> {
    let reply = take(request).await?;
    document::check(method, path, &reply);
    Ok(reply)
}

async fn take(request: RequestBuilder) -> Result<Reply, reqwest::Error> {
    let reply = request.send().await?;
    let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
    let text = reply.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Reply { status, headers, text, body })
}
