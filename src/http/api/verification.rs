//! Handles `GET /api/ai-cache/audit/verification`, which shows how far the audit trail is proven.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, get, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::compliance::ProofState;
use crate::http::State;
use crate::http::problem::Problem;
use crate::http::query_string::Parameters;

/// How far the audit trail is proven. One chain of seals covers all tenants of the installation. It
/// holds numbers and hashes, never the rows of a tenant.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationBody {
    /// The ledger, the unbroken history that new records belong to.
    ledger_id: String,
    /// Why the ledger was begun: `first`, `other-server`, `other-timeline`, `behind-checkpoint` or
    /// `checkpoint-missing`.
    ledger_reason: String,
    /// Whether an operator accepted that reason. Records may have been lost for it.
    ledger_accepted: bool,
    /// The newest seal; null before the first.
    #[schema(required)]
    last_seal: Option<SealBody>,
    /// The last line of the checkpoint file; null without such a file.
    #[schema(required)]
    last_checkpoint: Option<CheckpointBody>,
    /// The last daily verification that was completed; null before the first.
    #[schema(required)]
    last_verification: Option<DoneBody>,
    /// The time of this reply.
    timestamp: DateTime<Utc>,
}

/// A seal of the audit trail.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealBody {
    /// Its place in the ledger.
    seq: i64,
    /// The time at which it was made.
    sealed_at: DateTime<Utc>,
    /// Its hash (SHA-256), in hexadecimal.
    seal_hash: String,
    /// The id of the key of its signature.
    key_id: String,
    /// Its signature (Ed25519), in hexadecimal.
    signature: String,
}

/// A seal in the checkpoint file, which is kept outside the database.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointBody {
    /// Its ledger.
    ledger_id: String,
    /// Its place in the ledger.
    seq: i64,
    /// Its hash (SHA-256), in hexadecimal.
    seal_hash: String,
}

/// A verification of the audit trail.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoneBody {
    /// Whether the verification found nothing wrong.
    ok: bool,
    /// The time at which it ended.
    ended_at: DateTime<Utc>,
    /// The number of rows that were checked, of all tenants.
    rows: i64,
    /// The number of seals that were checked.
    seals: i64,
    /// The number of checkpoints that were compared.
    checkpoints: i64,
    /// The number of findings of each kind.
    findings: BTreeMap<String, u64>,
}

impl From<ProofState> for VerificationBody {
    fn from(state: ProofState) -> Self {
        let ProofState { ledger, reason, accepted, seal, checkpoint, verified, now } = state;
        Self {
            ledger_id: ledger.to_string(),
            ledger_reason: reason,
            ledger_accepted: accepted,
            last_seal: seal.map(|seal| SealBody {
                seq: seal.content.seq,
                sealed_at: seal.content.at,
                seal_hash: hex::encode(seal.hash),
                key_id: seal.content.key_id,
                signature: hex::encode(seal.signature),
            }),
            last_checkpoint: checkpoint.map(|outside| CheckpointBody {
                ledger_id: outside.ledger_id.to_string(),
                seq: outside.seq,
                seal_hash: outside.seal_hash,
            }),
            last_verification: verified.map(|row| DoneBody {
                ok: row.findings == 0,
                ended_at: row.ended_at,
                rows: row.rows,
                seals: row.seals,
                checkpoints: row.checkpoints,
                findings: row.kinds,
            }),
            timestamp: now,
        }
    }
}

/// Shows the state of the audit trail's chain: the newest seal, the last checkpoint, the last
/// verification.
#[utoipa::path(
    tag = "audit",
    responses((status = 200, description = "The state", body = VerificationBody)),
)]
#[get("/audit/verification")]
pub async fn get_verification(
    state: web::Data<State>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Parameters::of(&request)?.finish()?;
    let proof = state.compliance.proof_state().await?;
    Ok(HttpResponse::Ok().json(VerificationBody::from(proof)))
}
