//! The binary `postroom`: parses the command line, runs the command, and turns errors into exit codes.

use std::process::ExitCode;

use clap::Parser;
use postroom::cli::{
    AuthCommand, COMPILE, Cli, Command, ConfigCommand, MailCommand, MailboxCommand, PluginCommand,
    RuleCommand, RulesCommand, ShadowCommand, TargetCommand,
};
use postroom::commands::mail::Form;
use postroom::{commands, logging, output};
use postroom_rules::rulebook;
use postroom_sandbox::compile_for_parent;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Compile { memory, secs } = cli.command {
        return compile_for_parent(memory, secs);
    }
    if let Err(error) = rulebook::compile_in_children(COMPILE) {
        output::error_line(format_args!("postroom: this program's own file: {error}"));
        return ExitCode::FAILURE;
    }
    // The view of `dev` shows the log too.
    if !matches!(cli.command, Command::Dev { .. }) {
        logging::start();
    }
    let result = match cli.command {
        // Handled above, before logging starts.
        Command::Compile { .. } => Ok(ExitCode::FAILURE),
        Command::Demo(args) => commands::demo::demo(&args),
        Command::Init { dir } => commands::init::init(&dir),
        Command::Check {
            diff,
            config,
            output,
        } => commands::check::check(&config.config, diff, output.json),
        Command::Dev { config, args } => commands::dev::dev(&config.config, &args),
        Command::Run {
            config,
            once,
            start_anew,
        } => commands::run::run(&config.config, once, start_anew),
        Command::Decisions {
            command,
            config,
            filter,
            outcome,
            output,
        } => commands::decisions::decisions(&config.config, command, &filter, outcome, output.json),
        Command::Items {
            config,
            filter,
            kind,
            output,
        } => commands::listings::items(&config.config, &filter, kind, output.json),
        Command::Expectations { config, output } => {
            commands::listings::expectations(&config.config, output.json)
        }
        Command::Ledger {
            config,
            mailbox,
            repeated: true,
            output,
        } => commands::listings::repeats(&config.config, mailbox.as_deref(), output.json),
        Command::Ledger {
            config,
            mailbox,
            repeated: false,
            output,
        } => commands::listings::ledger(&config.config, mailbox.as_deref(), output.json),
        Command::Outbox {
            command,
            config,
            filter,
            output,
        } => commands::outbox::outbox(&config.config, command, &filter, output.json),
        Command::Replay {
            config,
            filter,
            candidate,
            all,
            output,
        } => {
            let options = commands::replay::Options {
                filter,
                candidate,
                all,
                json: output.json,
            };
            commands::replay::replay(&config.config, &options)
        }
        Command::Quarantine {
            command,
            config,
            output,
        } => commands::quarantine::quarantine(&config.config, command, output.json),
        Command::Auth(AuthCommand::Login {
            who,
            manual,
            timeout,
            config,
        }) => commands::auth::login(&config.config, &who, manual, timeout),
        Command::Auth(AuthCommand::Status {
            profile,
            config,
            output,
        }) => commands::auth::status(&config.config, profile.as_deref(), output.json),
        Command::Auth(AuthCommand::Logout { who, config }) => {
            commands::auth::logout(&config.config, &who)
        }
        Command::Mailbox(MailboxCommand::Test {
            name,
            send_to,
            must_not_open,
            trace,
            config,
            output,
        }) => {
            let options = commands::mailbox::Options {
                send_to,
                must_not_open,
                trace,
                json: output.json,
            };
            commands::mailbox::test(&config.config, &name, &options)
        }
        Command::Target(TargetCommand::Test {
            name,
            send_to,
            send_event,
            trace,
            config,
            output,
        }) => {
            let options = commands::target::Options {
                send_to,
                send_event,
                trace,
                json: output.json,
            };
            commands::target::test(&config.config, &name, &options)
        }
        Command::Send {
            send,
            config,
            output,
        } => {
            let options = commands::send::Options {
                to: send.to,
                subject: send.subject,
                body: send.body,
                html: send.html,
                attach: send.attach,
                outgoing: send.outgoing,
                json: output.json,
            };
            commands::send::send(&config.config, &options)
        }
        Command::Mail(MailCommand::Show {
            which,
            raw,
            html,
            text,
            config,
            output,
        }) => {
            let form = match (raw, html, text) {
                (true, ..) => Form::Raw,
                (_, true, _) => Form::Html,
                (.., true) => Form::Text,
                _ => Form::Whole,
            };
            commands::mail::show(&config.config, &which, form, output.json)
        }
        Command::Mail(MailCommand::Import {
            mailbox,
            files,
            old,
            deliver,
            start_anew,
            config,
            output,
        }) => {
            let options = commands::import::Options {
                old,
                deliver,
                start_anew,
                json: output.json,
            };
            commands::import::import(&config.config, &mailbox, &files, &options)
        }
        Command::Rule(RuleCommand::Try {
            targets,
            mailbox: Some(mailbox),
            chain: true,
            config,
            output,
        }) => commands::rule::try_chain(&targets, &config.config, &mailbox, output.json),
        Command::Rule(RuleCommand::Try {
            targets,
            mailbox,
            chain: _,
            config,
            output,
        }) => {
            let mailbox = mailbox.as_deref();
            commands::rule::try_rule(&targets, &config.config, mailbox, output.json)
        }
        Command::Rule(RuleCommand::Test {
            paths,
            mailbox,
            update,
            watch,
            config,
            output,
        }) => {
            let options = commands::rule::Options {
                paths,
                mailbox,
                update,
                watch,
                json: output.json,
            };
            commands::rule::test(&config.config, &options)
        }
        Command::Rule(RuleCommand::Pin {
            decision,
            rule,
            name,
            keep,
            force,
            config,
        }) => {
            let wanted = commands::rule::Pin {
                decision,
                rule,
                name,
                keep,
                force,
            };
            commands::rule::pin(&config.config, &wanted)
        }
        Command::Config(ConfigCommand::List {
            limit,
            config,
            output,
        }) => commands::config::list(&config.config, limit, output.json),
        Command::Config(ConfigCommand::Show {
            number,
            config,
            output,
        }) => commands::config::show(&config.config, number, output.json),
        Command::Config(ConfigCommand::Back { number, config }) => {
            commands::config::back(&config.config, number)
        }
        Command::Rules(RulesCommand::List {
            limit,
            config,
            output,
        }) => commands::rules::list(&config.config, limit, output.json),
        Command::Rules(RulesCommand::Show {
            generation,
            filter,
            config,
            output,
        }) => commands::rules::show(&config.config, generation, &filter, output.json),
        Command::Rules(RulesCommand::Diff {
            from,
            to,
            filter,
            config,
            output,
        }) => commands::rules::diff(&config.config, from, to, &filter, output.json),
        Command::Rules(RulesCommand::Rollback {
            generation,
            filter,
            config,
            output,
        }) => commands::rules::rollback(&config.config, generation, &filter, output.json),
        Command::Shadow(ShadowCommand::Start { shadow, config }) => {
            commands::shadow::start(&config.config, &shadow)
        }
        Command::Shadow(ShadowCommand::List { config, output }) => {
            commands::shadow::list(&config.config, output.json)
        }
        Command::Shadow(ShadowCommand::Show {
            mailbox,
            all,
            config,
            output,
        }) => commands::shadow::show(&config.config, &mailbox, all, output.json),
        Command::Shadow(ShadowCommand::Stop { mailbox, config }) => {
            commands::shadow::stop(&config.config, &mailbox)
        }
        Command::Shadow(ShadowCommand::Promote {
            mailbox,
            anyway,
            config,
        }) => commands::shadow::promote(&config.config, &mailbox, anyway),
        Command::Plugin(PluginCommand::New { language, name }) => {
            commands::plugin::new(language, &name)
        }
        Command::Plugin(PluginCommand::Build { module, output }) => {
            commands::plugin::build(&module, output)
        }
        Command::Plugin(PluginCommand::Inspect { component, output }) => {
            commands::plugin::inspect(&component, output.json)
        }
    };
    match result {
        Ok(code) if !output::has_failed() => code,
        Ok(_) => {
            output::error_line(format_args!(
                "postroom: writing to standard output failed; the output is incomplete"
            ));
            ExitCode::FAILURE
        }
        Err(error) => {
            output::error_line(format_args!("postroom: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
