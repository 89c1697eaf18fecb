//! Owns the command `ai-cache keys`, which rotates keys.

use std::process::ExitCode;

use clap::Subcommand;

use crate::app::App;
use crate::compliance::Rotated;
use crate::config::{Config, Source};

use super::failure::Failure;
use super::output::{self, Style};
use super::tenant::with_app;

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Wrap persons' keys under a new key and destroy the old one; 1: some do not open
    Rotate {
        /// The wrapping key of persons' keys
        #[arg(long, required = true)]
        wrapping: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(
    command: &KeysCommand,
    config: &Config,
    source: &Source,
) -> Result<ExitCode, Failure> {
    let KeysCommand::Rotate { wrapping: _, json } = command;
    let rotated = with_app(config, source, async |app: &App| {
        Ok(app.compliance.rotate_wrapping_key(app.calls.command_line_record()).await?)
    })
    .await?;
    output::show(Style::of(*json), &rotated, || in_words(&rotated))?;
    Ok(if rotated.unopened == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_words(rotated: &Rotated) -> String {
    let Rotated { wrapping_key_id, rewrapped, unopened, destroyed, to_remove, .. } = rotated;
    let mut lines =
        vec![format!("{rewrapped} persons' keys are wrapped anew under {wrapping_key_id}")];
    if *unopened > 0 {
        lines.push(format!(
            "{unopened} do not open under any key that is here, and stay as they are"
        ));
    }
    if !destroyed.is_empty() {
        lines.push(format!("destroyed {}", destroyed.join(", ")));
    }
    if !to_remove.is_empty() {
        let names = to_remove.join(", ");
        lines.push(format!("now take {names} out of AI_CACHE_MASTER_KEYS of every replica"));
    }
    lines.join("\n")
}
