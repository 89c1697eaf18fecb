//! Reads the part of HTTP/1.1 that a load client needs: the status, the length, and whether the
//! cache answered. It never reads bodies. The client counts their bytes.

use std::io::BufRead as _;

/// The longest head that is accepted, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The origin of a reply, according to its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyOrigin {
    /// The reply came from the cache.
    Hit,
    /// The reply came from elsewhere, or its headers do not name the origin.
    #[default]
    Other,
}

/// A mark that tells whether the reply names its audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditMark {
    /// The reply has the header X-Audit-Id.
    Present,
    /// The reply does not have the header X-Audit-Id.
    #[default]
    Absent,
}

/// A mark that tells whether the connection may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// The connection stays open.
    KeepAlive,
    /// The server closes the connection after this reply.
    Close,
}

/// The facts that the head of a reply states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status code, 200 to 599.
    pub status: u16,
    /// The bytes of the head, with its blank line.
    pub length_bytes: usize,
    /// The bytes of the body.
    pub body_bytes: usize,
    /// The origin of the reply.
    pub origin: ReplyOrigin,
    /// The presence of an audit record's id.
    pub audit: AuditMark,
    /// The fate of the connection after this reply.
    pub reuse: Reuse,
}

/// The reason why bytes are not a reply that this client can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The first line is not `HTTP/1.1 NNN …`.
    #[error("the reply does not begin with an HTTP/1.1 status line")]
    StatusLine,
    /// The reply is informational, and the client did not ask for such a reply.
    #[error("the reply is informational (status {0}), which was not asked for")]
    Informational(u16),
    /// Content-Length is not a number, or it occurs twice with different values.
    #[error("the reply's Content-Length is not one number")]
    ContentLength,
    /// A reply that has a body has no Content-Length.
    #[error("the reply has no Content-Length, so its end cannot be told")]
    NoContentLength,
    /// The body is chunked.
    #[error("the reply is chunked; load is measured on replies with a Content-Length only")]
    Chunked,
    /// The head has no blank line within [`HEAD_BYTES_MAX`].
    #[error("the reply's head is longer than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    /// Bytes follow the reply although no other request was sent.
    #[error("more bytes arrived than the reply's Content-Length says")]
    Surplus,
}

/// Reads the head at the start of `bytes`. Returns `None` if its blank line has not arrived yet.
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>, ReplyError> {
    let Some((status_line, mut rest)) = split_line(bytes) else {
        return incomplete(bytes);
    };
    let mut found = HeadFields { status: parse_status(status_line)?, ..HeadFields::default() };
    loop {
        let Some((line, after)) = split_line(rest) else {
            return incomplete(bytes);
        };
        rest = after;
        if line.is_empty() {
            return found.into_head(bytes.len() - rest.len()).map(Some);
        }
        found.take(line)?;
    }
}

fn incomplete(bytes: &[u8]) -> Result<Option<Head>, ReplyError> {
    if bytes.len() >= HEAD_BYTES_MAX { Err(ReplyError::HeadTooLong) } else { Ok(None) }
}

/// Returns the first line without its line end, and the bytes that follow it. Returns `None` if the
/// line end is missing. `skip_until` on a slice cannot fail, and it searches with the C library's
/// memchr, which is much faster than a loop over bytes.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    let length = rest.skip_until(b'\n').ok()?;
    let line = bytes[..length].strip_suffix(b"\n")?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), rest))
}

fn parse_status(line: &[u8]) -> Result<u16, ReplyError> {
    let code = line.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = code
        .and_then(|code| std::str::from_utf8(code).ok())
        .and_then(|code| code.parse().ok())
        .ok_or(ReplyError::StatusLine)?;
    match status {
        100..200 => Err(ReplyError::Informational(status)),
        200..600 => Ok(status),
        _ => Err(ReplyError::StatusLine),
    }
}

#[derive(Default)]
struct HeadFields {
    status: u16,
    body_bytes: Option<usize>,
    x_cache: Option<ReplyOrigin>,
    cache_status: ReplyOrigin,
    audit: AuditMark,
    closes: bool,
}

impl HeadFields {
    fn take(&mut self, line: &[u8]) -> Result<(), ReplyError> {
        // The first letter rules out most headers before any search.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T' | b'x' | b'X')) {
            return Ok(());
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return Ok(());
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            self.take_length(value)?;
        } else if name.eq_ignore_ascii_case(b"x-cache") {
            let hit = value.eq_ignore_ascii_case(b"HIT");
            self.x_cache = Some(if hit { ReplyOrigin::Hit } else { ReplyOrigin::Other });
        } else if name.eq_ignore_ascii_case(b"cache-status") {
            let mut parameters = value.split(|&byte| byte == b';').skip(1);
            if parameters.any(|parameter| parameter.trim_ascii() == b"hit") {
                self.cache_status = ReplyOrigin::Hit;
            }
        } else if name.eq_ignore_ascii_case(b"x-audit-id") {
            self.audit = AuditMark::Present;
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.closes = value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err(ReplyError::Chunked);
        }
        Ok(())
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), ReplyError> {
        let length = std::str::from_utf8(value)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or(ReplyError::ContentLength)?;
        if self.body_bytes.is_some_and(|before| before != length) {
            return Err(ReplyError::ContentLength);
        }
        self.body_bytes = Some(length);
        Ok(())
    }

    /// Makes the head of the headers found. `X-Cache` decides the origin. If it is missing,
    /// `Cache-Status` (RFC 9211) decides.
    fn into_head(self, length_bytes: usize) -> Result<Head, ReplyError> {
        let body_bytes = match (self.status, self.body_bytes) {
            (204 | 304, _) => 0,
            (_, Some(length)) => length,
            (_, None) => return Err(ReplyError::NoContentLength),
        };
        Ok(Head {
            status: self.status,
            length_bytes,
            body_bytes,
            origin: self.x_cache.unwrap_or(self.cache_status),
            audit: self.audit,
            reuse: if self.closes { Reuse::Close } else { Reuse::KeepAlive },
        })
    }
}
