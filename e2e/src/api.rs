//! Requests to an API server without kubectl, where there are many.

use std::fs;
use std::path::Path;

use reqwest::blocking::{Client, RequestBuilder};
use serde_json::Value;

use crate::admin::Admin;
use crate::{Context, Failure, Outcome, http};

/// An administrator's connection to an API server.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    url: String,
    token: String,
}

impl Api {
    /// Connects with the administrator's kubeconfig, which has to be one that this crate wrote.
    pub fn new(admin: &Admin) -> Outcome<Self> {
        let config: Value = serde_json::from_slice(&fs::read(admin.kubeconfig())?)?;
        let cluster = &config["clusters"][0]["cluster"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let authority = text(&cluster["certificate-authority"]).context("no authority")?;
        Ok(Self {
            client: http::client(Path::new(&authority))?,
            url: text(&cluster["server"]).context("no address")?,
            token: text(&config["users"][0]["user"]["token"]).context("no token")?,
        })
    }

    /// Reads what is at this path: `/api/v1/namespaces/default`.
    pub fn get(&self, path: &str) -> Outcome<Value> {
        let (status, answer) = self.send(self.client.get(format!("{}{path}", self.url)))?;
        if status == 200 { Ok(answer) } else { Err(Failure::new(format!("{path}: {answer}"))) }
    }

    /// Creates an object in the list at this path. Gives the status, and the object as it is stored
    /// or the reason why not.
    pub fn post(&self, path: &str, object: &Value) -> Outcome<(u16, Value)> {
        let request = self.client.post(format!("{}{path}", self.url));
        let json = request.header("Content-Type", "application/json").body(object.to_string());
        self.send(json)
    }

    fn send(&self, request: RequestBuilder) -> Outcome<(u16, Value)> {
        let answer = request.bearer_auth(&self.token).send()?;
        let status = answer.status().as_u16();
        let text = answer.text()?;
        Ok((status, serde_json::from_str(&text).context(text)?))
    }
}
