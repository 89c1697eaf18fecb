//! Owns the failure of a command and maps the errors of the service to it.

use std::fmt;
use std::process::ExitCode;

use crate::administration::{TenantError, TokenError};
use crate::app::AppError;
use crate::audit::AuditStartError;
use crate::call::ServiceError;
use crate::compliance::{GdprError, ProofError, PurgeError, RestoreError, RotateError};
use crate::embedded::EmbeddedError;
use crate::keyring::KeyringError;
use crate::store::StoreError;
use crate::store::guard::GuardError;
use crate::store::migrate::MigrateError;

/// The kind of a failure. It decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandFailureKind {
    /// The command's answer is no, or its work could not be done.
    NotSo,
    /// The arguments or the settings are wrong.
    Usage,
    /// A needed service is out of reach.
    OutOfReach,
}

/// The reason why a command did not do its work.
#[derive(Debug)]
pub(super) struct Failure {
    kind: CommandFailureKind,
    line: String,
}

impl Failure {
    /// Makes a failure for wrong arguments or settings.
    pub(super) fn usage(line: impl fmt::Display) -> Self {
        Self { kind: CommandFailureKind::Usage, line: line.to_string() }
    }

    /// Makes a failure for a command whose answer is no or whose work could not be done.
    pub(super) fn not_so(line: impl fmt::Display) -> Self {
        Self { kind: CommandFailureKind::NotSo, line: line.to_string() }
    }

    /// Makes a failure for a needed service that is out of reach.
    pub(super) fn out_of_reach(line: impl fmt::Display) -> Self {
        Self { kind: CommandFailureKind::OutOfReach, line: line.to_string() }
    }

    /// Makes a failure for an error inside this process.
    pub(super) fn internal(error: impl fmt::Display) -> Self {
        Self::not_so(error)
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            CommandFailureKind::NotSo => 1,
            CommandFailureKind::Usage => 2,
            CommandFailureKind::OutOfReach => 3,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.line.lines().enumerate() {
            let separator = if index > 0 { "\n" } else { "" };
            write!(f, "{separator}ai-cache: {line}")?;
        }
        Ok(())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_outage() { Self::out_of_reach(error) } else { Self::not_so(error) }
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Store(error) | AppError::Guard(GuardError::Store(error)) => error.into(),
            AppError::Guard(_)
            | AppError::Redis(_)
            | AppError::Server(_)
            | AppError::Outside(_)
            | AppError::Audit(AuditStartError::Spool(_)) => Self::usage(error),
            AppError::Service(error) => error.into(),
            AppError::Metrics(_)
            | AppError::Crypto(_)
            | AppError::Hasher(_)
            | AppError::Audit(AuditStartError::Thread(_)) => Self::internal(error),
        }
    }
}

impl From<PurgeError> for Failure {
    fn from(error: PurgeError) -> Self {
        match error {
            PurgeError::Service(error) => error.into(),
            PurgeError::UnderWay => Self::not_so(error),
        }
    }
}

impl From<ProofError> for Failure {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Store(error) => error.into(),
            ProofError::Checkpoint(_) => Self::usage(error),
            ProofError::Audit(_) => Self::out_of_reach(error),
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Service(error) => error.into(),
            RestoreError::File(_) => Self::usage(error),
            RestoreError::Missing => Self::not_so(error),
        }
    }
}

impl From<RotateError> for Failure {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Service(error) => error.into(),
            RotateError::Keys(_) => Self::usage(error),
            RotateError::NothingNew(_) | RotateError::Retired(_) => Self::not_so(error),
        }
    }
}

impl From<MigrateError> for Failure {
    fn from(error: MigrateError) -> Self {
        match &error {
            MigrateError::Url(_) | MigrateError::ServiceUrl(_) => Self::usage(error),
            MigrateError::Unreachable(_) | MigrateError::TimedOut(_) => Self::out_of_reach(error),
            MigrateError::Statement(_) | MigrateError::Migration(_) => Self::not_so(error),
        }
    }
}

impl From<EmbeddedError> for Failure {
    fn from(error: EmbeddedError) -> Self {
        Self::out_of_reach(error)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Store(error) | ServiceError::Keyring(KeyringError::Store(error)) => {
                error.into()
            }
            ServiceError::NotPropagated(_) => Self::out_of_reach(error),
            other => Self::not_so(other),
        }
    }
}

impl From<TenantError> for Failure {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::Service(error) => error.into(),
            other => Self::not_so(other),
        }
    }
}

impl From<GdprError> for Failure {
    fn from(error: GdprError) -> Self {
        match error {
            GdprError::Service(error) => error.into(),
            other => Self::not_so(other),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Service(error) => error.into(),
            other => Self::not_so(other),
        }
    }
}
