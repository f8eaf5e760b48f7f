//! The command line: what each command does, and how an error becomes an exit code.

mod archive;
mod backup;
mod export;
mod export_all;
mod folder;
mod health;
mod import;
mod reader;
mod serve;
mod source;
mod store;
mod token;
mod yhub;

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use storage::{StoreError, StoreOptions};

use crate::{
    config::{ConfigError, Environment, Settings},
    server::ServerError,
    telemetry,
};

/// A collaborative editing server: Yjs pages that many people edit at once, merged without conflicts and stored durably.
#[derive(Parser, Debug)]
#[command(name = "pageroom", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

const AFTER_HELP: &str = "Without a command the server is started (`pageroom serve`). Each setting is a flag and a variable. A variable that is empty is not \
     set; each secret may also stand in a file that NAME_FILE names.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Start the server.
    Serve(Box<Settings>),
    /// Bring the store's schema up to date and end.
    Migrate(Box<Settings>),
    /// Check the settings, list everything that is wrong, and end.
    CheckConfig(Box<CheckArgs>),
    /// Ask a running server whether it can do its work: ends with 0 if so, else with 1.
    Health(health::HealthArgs),
    /// Mint a token with the configured secret, for trying things out.
    Token(Box<token::TokenArgs>),
    /// Write a page to standard output or a file.
    Export(Box<export::ExportArgs>),
    /// Write all pages into one archive, which a later call goes on with.
    ExportAll(Box<export_all::ExportAllArgs>),
    /// Copy the SQLite file while a server uses it.
    Backup(backup::BackupArgs),
    /// Read pages from an archive, a folder, or the tables of another server, and merge them into those that are there.
    Import(Box<import::ImportArgs>),
    /// Make load on a running server and measure latencies, throughput, CPU time and memory.
    Bench(Box<pageroom_load::BenchArgs>),
    /// Read pages for the server that has started this process.
    #[command(hide = true)]
    Reader(reader::ReaderArgs),
}

/// What is checked.
#[derive(clap::Args, Debug)]
struct CheckArgs {
    /// Go to the store as well, and see whether it could be used now. Nothing is changed there.
    #[arg(long)]
    connect: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Health(#[from] health::HealthError),
    #[error(transparent)]
    Token(#[from] token::TokenError),
    #[error(transparent)]
    Export(#[from] export::ExportError),
    #[error(transparent)]
    ExportAll(#[from] export_all::ExportAllError),
    #[error(transparent)]
    Backup(#[from] storage::BackupError),
    #[error(transparent)]
    Import(#[from] import::ImportError),
    #[error(transparent)]
    Bench(#[from] pageroom_load::BenchError),
    #[error("the output could not be written: {0}")]
    Output(#[from] std::io::Error),
}

/// The deepest recursion is over nested shared types, whose depth the gate limits; large stacks make that safe by orders of
/// magnitude, and cost address space, not memory.
const STACK_BYTES: usize = 64 << 20;

/// Reads the command line and runs the command.
pub fn main() -> ExitCode {
    let variables = std::env::vars_os().collect();
    let (command, environment) = Environment::read(Cli::command(), &variables);
    let cli = Cli::from_arg_matches(&command.get_matches());
    let cli = cli.unwrap_or_else(|error| error.exit());
    if let Some(Command::Reader(args)) = &cli.command {
        return reader::run(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli, &environment));
            // A store that hangs must not hold up the end.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(CliError::Output(error)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            // What is missing may stand there under a name that no setting has.
            let is_of_settings = matches!(error, CliError::Config(_));
            for warning in environment.warnings.iter().filter(|_| is_of_settings) {
                let _ = writeln!(std::io::stderr(), "pageroom: {warning}");
            }
            let _ = writeln!(std::io::stderr(), "pageroom: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Goes to the store and says how it is found. Nothing is changed there, and a server may be using it.
async fn check_store(url: &str, options: StoreOptions) -> Result<String, StoreError> {
    if let Some(file) = storage::missing_file(url)? {
        let file = file.display();
        return Ok(format!("there is no {file} yet: the first start makes it"));
    }
    let options = StoreOptions {
        migrate: false,
        create: false,
        alone: false,
        ..options
    };
    let store = storage::open(url, &options).await?;
    let checked = store.check().await;
    store.close().await;
    checked.map(|()| "the store can be used".to_owned())
}

async fn run(cli: Cli, environment: &Environment) -> Result<ExitCode, CliError> {
    match cli
        .command
        .unwrap_or_else(|| Command::Serve(Box::new(cli.settings)))
    {
        Command::Serve(settings) => {
            let mut config = environment.join(settings.check())?;
            config.otlp = environment.otlp.clone();
            telemetry::install_log(settings.log.log_format, &settings.log.log);
            for warning in environment.warnings.iter().chain(&settings.warnings()) {
                tracing::warn!("{warning}");
            }
            Ok(Box::pin(serve::run(config)).await?)
        }
        Command::Migrate(settings) => {
            let config = environment.join(settings.check())?;
            storage::migrate(config.database_url.expose(), config.store.direct)
                .await
                .map_err(ServerError::from)?;
            writeln!(std::io::stdout(), "the schema is up to date")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::CheckConfig(args) => {
            let config = environment.join(args.settings.check())?;
            for warning in environment.warnings.iter().chain(&args.settings.warnings()) {
                writeln!(std::io::stderr(), "pageroom: {warning}")?;
            }
            if args.connect {
                let said = check_store(config.database_url.expose(), config.store).await;
                writeln!(std::io::stdout(), "{}", said.map_err(ServerError::from)?)?;
            }
            writeln!(std::io::stdout(), "the configuration is good")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Health(args) => {
            environment.join(Ok(()))?;
            health::run(&args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Token(args) => {
            environment.join(Ok(()))?;
            writeln!(std::io::stdout(), "{}", token::mint(&args)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Export(args) => {
            environment.join(Ok(()))?;
            export::run(&args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Backup(args) => {
            environment.join(Ok(()))?;
            backup::run(&args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::ExportAll(args) => {
            environment.join(Ok(()))?;
            export_all::run(&args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Import(args) => {
            environment.join(Ok(()))?;
            Ok(match import::run(&args).await? {
                0 => ExitCode::SUCCESS,
                // They are named on standard error.
                _refused => ExitCode::FAILURE,
            })
        }
        // It has no runtime: see above.
        Command::Reader(args) => Ok(reader::run(&args)),
        Command::Bench(args) => {
            pageroom_load::run(*args).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
