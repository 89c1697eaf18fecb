//! The actions that audit records tell of. A new capability adds its actions here; it never changes or
//! removes a name, because records keep it for years.

use super::by_name::names;

names! {
    /// The action that was done or asked for.
    Action {
        /// A question was asked.
        Query => "query",
        /// An entry was stored.
        Fill => "fill",
        /// Entries were evicted to make room, or because nobody could be given them any more.
        Evict => "evict",
        /// Entries were invalidated.
        Invalidate => "invalidate",
        /// The metadata of entries was listed.
        EntryList => "entry-list",
        /// The metadata of an entry was read.
        EntryRead => "entry-read",
        /// An entry was removed.
        EntryDelete => "entry-delete",
        /// Statistics were read.
        StatisticsRead => "statistics-read",
        /// A tenant was made.
        TenantCreate => "tenant-create",
        /// Tenants were listed.
        TenantList => "tenant-list",
        /// A tenant was changed. The count is the number of settings that were given.
        TenantUpdate => "tenant-update",
        /// A token was made.
        TokenCreate => "token-create",
        /// A token was revoked.
        TokenRevoke => "token-revoke",
        /// Tokens were listed.
        TokenList => "token-list",
        /// A tenant's key was made.
        TenantKeyCreate => "tenant-key-create",
        /// A person's key was made.
        SubjectKeyCreate => "subject-key-create",
        /// A request asked for a route that does not exist.
        Unrouted => "unrouted",
        /// A request was refused before it had a caller.
        Authenticate => "authenticate",
        /// A ledger of the trail was begun.
        LedgerBegin => "ledger-begin",
        /// An operator accepted the reason for which a ledger was begun.
        LedgerAccept => "ledger-accept",
        /// Another key seals the trail from this record on.
        SealKeyChange => "seal-key-change",
        /// The trail was verified.
        AuditVerify => "audit-verify",
        /// The state of the trail's verification was read.
        VerificationRead => "verification-read",
        /// Records of the trail were read.
        AuditRead => "audit-read",
        /// An export of the trail began.
        AuditExport => "audit-export",
        /// An export of the trail ended. The count is the number of records that were sent.
        AuditExportEnd => "audit-export-end",
        /// A data subject's request was filed.
        GdprFile => "gdpr-file",
        /// Requests of data subjects were listed.
        GdprList => "gdpr-list",
        /// A request of a data subject was read.
        GdprRead => "gdpr-read",
        /// A request may be executed without an approval.
        GdprAccept => "gdpr-accept",
        /// A request waits for an approval.
        GdprAskApproval => "gdpr-ask-approval",
        /// A request was approved.
        GdprApprove => "gdpr-approve",
        /// A request was rejected.
        GdprReject => "gdpr-reject",
        /// A request was cancelled.
        GdprCancel => "gdpr-cancel",
        /// The time of a request was extended.
        GdprExtend => "gdpr-extend",
        /// The execution of a request began or was taken up again.
        GdprBegin => "gdpr-begin",
        /// A step of an execution was done.
        GdprStep => "gdpr-step",
        /// A request was executed.
        GdprComplete => "gdpr-complete",
        /// A request was executed as far as a legal hold allows.
        GdprCompletePartially => "gdpr-complete-partially",
        /// An erasure is executed anew, because the legal hold that cut it short has ended.
        GdprResume => "gdpr-resume",
        /// The execution of a request failed for good.
        GdprFail => "gdpr-fail",
        /// The data held on a person were read for an export.
        GdprExport => "gdpr-export",
        /// The download of an export's package began.
        GdprDownload => "gdpr-download",
        /// A download ended. The count is the number of bytes that were sent.
        GdprDownloadEnd => "gdpr-download-end",
        /// The certificate of an erasure was read.
        CertificateRead => "certificate-read",
        /// A person's key was destroyed.
        SubjectKeyDestroy => "subject-key-destroy",
        /// Keys of persons were wrapped anew under another key.
        SubjectKeyRewrap => "subject-key-rewrap",
        /// The erasure ledger was applied to a restored database.
        LedgerApply => "ledger-apply",
        /// A person's data were restricted.
        Restrict => "restrict",
        /// The restriction of a person's data was lifted.
        LiftRestriction => "lift-restriction",
        /// A legal hold was set.
        HoldSet => "hold-set",
        /// A legal hold was lifted.
        HoldLift => "hold-lift",
        /// Legal holds were listed.
        HoldList => "hold-list",
        /// Data past their retention were removed.
        Purge => "purge",
        /// A partition of the trail was dropped, because its rows were past their retention class.
        AuditPurge => "audit-purge",
    }
}
