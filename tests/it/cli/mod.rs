//! The command line (api.md "Command line", issue 2): the real program, its words, files and exit
//! codes.

mod audit;
mod disk;
mod gdpr;
mod help;
mod kills;
mod migrate;
pub mod program;
mod purge;
mod refusals;
mod serve;
mod tokens;
