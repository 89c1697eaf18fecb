//! The program `ai-cache`: see `cli`.

fn main() -> std::process::ExitCode {
    ai_cache::cli::main()
}
