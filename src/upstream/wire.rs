//! The chat-completions protocol as far as it is used: the body of a request, and the parts of an
//! answer. Members that are not read here are skipped.

use serde::de::IgnoredAny;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::domain::money::Usage;
use crate::domain::prompt::Prompt;

use super::UpstreamError;

/// The members that only this module sets. A client's parameter of such a name is left out, because
/// readers disagree about a key that comes twice.
const OWN_KEYS: [&str; 3] = ["model", "messages", "stream"];

/// The body of a request.
pub(super) struct CompletionRequest<'a>(pub(super) &'a Prompt);

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

impl Serialize for CompletionRequest<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let prompt = self.0;
        let messages = [
            Message { role: "system", content: prompt.system },
            Message { role: "user", content: &prompt.user },
        ];
        let mut body = serializer.serialize_map(None)?;
        body.serialize_entry("model", &prompt.model)?;
        body.serialize_entry("messages", &messages)?;
        body.serialize_entry("stream", &false)?;
        for (key, value) in &prompt.parameters {
            if !OWN_KEYS.contains(&key.as_str()) {
                body.serialize_entry(key, value)?;
            }
        }
        body.end()
    }
}

#[derive(Deserialize)]
struct Reply<'a> {
    choices: Option<Vec<Choice>>,
    model: Option<String>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    message: Option<ReplyMessage>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct ReplyMessage {
    content: Option<Content>,
    refusal: Option<String>,
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
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct ReplyUsage {
    prompt_tokens: u32,
    completion_tokens: u32,
}

impl ReplyMessage {
    /// Returns the words of a choice, and whether they are a refusal.
    fn words(self) -> (String, bool) {
        let (said, refused): (String, String) = match self.content {
            Some(Content::Text(text)) => (text, String::new()),
            Some(Content::Parts(parts)) => parts
                .into_iter()
                .map(|part| (part.text.unwrap_or_default(), part.refusal.unwrap_or_default()))
                .unzip(),
            None => (String::new(), String::new()),
        };
        let refused = refused + &self.refusal.unwrap_or_default();
        if refused.is_empty() {
            (said, false)
        } else if said.trim().is_empty() {
            (refused, true)
        } else {
            (said, true)
        }
    }
}

/// The parts of an answer.
pub(super) struct Parsed {
    pub(super) text: Zeroizing<String>,
    pub(super) model: Option<String>,
    pub(super) usage: Option<Usage>,
    /// Whether the answer ended by itself and is no refusal.
    pub(super) complete: bool,
}

/// Reads the body of a successful reply.
pub(super) fn parse(body: &[u8]) -> Result<Parsed, UpstreamError> {
    let bad = |what| UpstreamError::BadAnswer { what };
    let reply: Reply<'_> =
        serde_json::from_slice(body).map_err(|_| bad("it is not a chat completion"))?;
    if reply.error.is_some() {
        return Err(bad("it is an error under a status of success"));
    }
    let choice = reply.choices.and_then(|choices| choices.into_iter().next());
    let choice = choice.ok_or_else(|| bad("it has no choice"))?;
    let message = choice.message.ok_or_else(|| bad("it has no message"))?;
    let (text, refused) = message.words();
    if text.trim().is_empty() {
        return Err(bad("it has no text"));
    }
    Ok(Parsed {
        text: Zeroizing::new(text),
        model: reply.model.filter(|model| !model.is_empty()),
        usage: reply.usage.and_then(usage),
        complete: choice.finish_reason.as_deref() == Some("stop") && !refused,
    })
}

/// Reads the token counts. Returns `None` if they are not as the protocol says, so that no answer
/// is lost over them.
fn usage(raw: &RawValue) -> Option<Usage> {
    let counts: ReplyUsage = serde_json::from_str(raw.get()).ok()?;
    let tokens = |count: u32| count.min(Usage::MOST_TOKENS);
    Some(Usage {
        prompt_tokens: tokens(counts.prompt_tokens),
        completion_tokens: tokens(counts.completion_tokens),
    })
}
