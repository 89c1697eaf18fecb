//! The chat-completions protocol as far as it is used: the request's body, and the answer's parts.

use serde::{Deserialize, Serialize};

use crate::domain::json::Object;
use crate::domain::money::Usage;
use crate::domain::prompt::Prompt;

use super::UpstreamError;

#[derive(Serialize)]
pub(super) struct Request<'a> {
    model: &'a str,
    messages: [Message<'a>; 2],
    stream: bool,
    #[serde(flatten)]
    parameters: &'a Object,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> Request<'a> {
    pub(super) fn of(prompt: &'a Prompt) -> Self {
        Self {
            model: &prompt.model,
            messages: [
                Message {
                    role: "system",
                    content: prompt.system,
                },
                Message {
                    role: "user",
                    content: &prompt.user,
                },
            ],
            stream: false,
            parameters: &prompt.parameters,
        }
    }
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    choices: Vec<Choice>,
    model: Option<String>,
    usage: Option<ReplyUsage>,
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    message: Option<ReplyMessage>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct ReplyMessage {
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

#[derive(Deserialize)]
struct ReplyUsage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
}

/// What an answer says.
pub(super) struct Parsed {
    pub(super) text: String,
    pub(super) model: Option<String>,
    pub(super) usage: Option<Usage>,
    /// It ended by itself.
    pub(super) complete: bool,
}

/// Reads the body of a successful reply.
pub(super) fn parse(body: &[u8]) -> Result<Parsed, UpstreamError> {
    let bad = |what| UpstreamError::BadAnswer { what };
    let reply: Reply =
        serde_json::from_slice(body).map_err(|_| bad("it is not a chat completion"))?;
    if reply.error.is_some() {
        return Err(bad("it is an error under a status of success"));
    }
    let choice = reply
        .choices
        .into_iter()
        .next()
        .ok_or_else(|| bad("it has no choice"))?;
    let text = match choice.message.and_then(|message| message.content) {
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => parts.into_iter().filter_map(|part| part.text).collect(),
        None => String::new(),
    };
    if text.is_empty() {
        return Err(bad("it has no text"));
    }
    let usage = reply.usage.map(|usage| Usage {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
    });
    let complete = choice.finish_reason.as_deref() == Some("stop");
    Ok(Parsed {
        text,
        model: reply.model,
        usage,
        complete,
    })
}
