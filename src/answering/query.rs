//! A question: answered from memory, Redis or Postgres when known, else once from the upstream.
//! The order is that of architecture §5: enabled, look up, receipt, still admitted, open, reply.

use std::sync::Arc;

use crate::auth::TokenStanding;
use crate::call::Call;
use crate::domain::query::QueryRequest;

use super::answered::{Answered, QueryError};
use super::{Answering, Switch};

impl Answering {
    /// Answers a question. Everything that is not a hit in memory is boxed, so that the future of
    /// such a hit stays small to move.
    pub async fn query(
        &self,
        call: &mut Call,
        mut request: QueryRequest,
    ) -> Result<Answered, QueryError> {
        if self.parts.switch == Switch::PassThrough || call.standing == TokenStanding::Believed {
            request.directives.mode = request.directives.mode.passed_through();
        }
        let operation = request.operation;
        call.note(|record| record.operation = Some(operation));
        let request = Arc::new(request);
        let answered = self.answer(call, request).await;
        let elapsed_us = call.elapsed_us();
        self.count(call.caller.tenant, operation, &answered, elapsed_us);
        answered
    }

    async fn answer(
        &self,
        call: &mut Call,
        request: Arc<QueryRequest>,
    ) -> Result<Answered, QueryError> {
        let Some(lookup) = self.remembered_lookup(call, &request) else {
            return Box::pin(self.answer_with_loaded_keys(call, request)).await;
        };
        let Some(found) = self.parts.stack.find_hot(&lookup.wanted, &call.view) else {
            return Box::pin(self.answer_miss(call, lookup)).await;
        };
        match self.serve_found(call, &lookup, &found).await? {
            Some(answered) => Ok(answered),
            // The keys may have changed as well, so they are looked up anew.
            None => Box::pin(self.answer_with_loaded_keys(call, request)).await,
        }
    }
}
