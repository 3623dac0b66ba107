//! Parses the command line of the process within limits.

use std::{borrow::Cow, ffi::OsString, os::unix::ffi::OsStrExt as _};

use clap::{
    ArgAction, ArgMatches, Command, CommandFactory as _, Error, FromArgMatches as _, ValueHint,
    builder::StyledStr,
    error::{ContextValue, ErrorKind},
};

use super::{Cli, selection::GlobList, tips, usage};
use crate::{bounds::excerpt, outside_text::OutsideText};

/// Maximum number of arguments. Each can be the name of a recording.
const MAX_ARGUMENTS: usize = 10_000;

/// Maximum number of values of an option. Each can be a glob, which takes some 10 KB and 1 ms to compile.
const MAX_VALUES: usize = 1000;

impl Cli {
    /// Parses the command line of this process. On an error, prints it and ends the process.
    #[must_use]
    pub fn from_command_line() -> Self {
        let args: Vec<_> = std::env::args_os().collect();
        parse(&args).unwrap_or_else(|error| exit(error, &args))
    }
}

fn parse(args: &[OsString]) -> Result<Cli, Error> {
    let mut program = Cli::command();
    // Those of a command after `--` are not this program's.
    let own = args.iter().take_while(|it| *it != "--").count();
    if own > MAX_ARGUMENTS {
        let message = format!(
            "give at most {MAX_ARGUMENTS} arguments, not {own}: a glob in quotes names many files or VMs"
        );
        return Err(program.error(ErrorKind::TooManyValues, message));
    }
    let matches = program.try_get_matches_from_mut(args)?;
    if let Some((name, values)) = matches.subcommand()
        && let Some(command) = program.find_subcommand_mut(name)
        && let Some((option, count)) = longest_list(command, values)
        && count > MAX_VALUES
    {
        let message = format!("give at most {MAX_VALUES} values of {option}, not {count}");
        return Err(command.error(ErrorKind::TooManyValues, message));
    }
    Cli::from_arg_matches(&matches)
}

/// Returns the option with the most values in all its occurrences, and their number. Options with files are limited by the
/// number of arguments.
fn longest_list(command: &Command, values: &ArgMatches) -> Option<(String, usize)> {
    let is_list = |action: &ArgAction| matches!(action, ArgAction::Append);
    let options = command
        .get_opts()
        .filter(|it| is_list(it.get_action()) && it.get_value_hint() != ValueHint::AnyPath);
    let counts = options.map(|it| {
        let id = it.get_id().as_str();
        let count = match values.try_get_many::<GlobList>(id) {
            Ok(lists) => lists.into_iter().flatten().map(GlobList::len).sum(),
            Err(_) => values.get_raw(id).map_or(0, |it| it.len()),
        };
        (it.to_string(), count)
    });
    counts.max_by_key(|(_, count)| *count)
}

/// Prints an error with a tip, and ends the process.
fn exit(error: Error, args: &[OsString]) -> ! {
    // An error quotes arguments, so it is made of arguments that can be shown.
    let shown = args
        .iter()
        .map(|it| OutsideText::new(it.as_bytes()).escaped());
    let shown: Vec<_> = shown.collect();
    let is_plain = shown.iter().zip(args).all(|(shown, arg)| **shown == **arg);
    let mut error = match is_plain {
        true => error,
        false => {
            let shown: Vec<_> = shown.iter().map(|it| OsString::from(&**it)).collect();
            parse(&shown).err().unwrap_or(error)
        }
    };
    let program = Cli::command();
    let mut names = args.iter().skip(1).filter_map(|it| it.to_str());
    let name = names.find(|it| program.find_subcommand(it).is_some());
    shorten_quotes(&mut error);
    tips::add_tip(&mut error, &program, name);
    // Help quotes no arguments.
    if is_plain || !error.use_stderr() {
        error.exit()
    }
    usage::exit_without_style(&error)
}

/// Shortens the arguments that an error quotes.
fn shorten_quotes(error: &mut Error) {
    let is_long = |text: &StyledStr| matches!(excerpt(&text.to_string()), Cow::Owned(_));
    let context = error.context().map(|(kind, it)| (kind, it.clone()));
    for (kind, value) in context.collect::<Vec<_>>() {
        match value {
            ContextValue::String(text) => {
                let text = ContextValue::String(excerpt(&text).into_owned());
                error.insert(kind, text);
            }
            // A tip of the parser.
            ContextValue::StyledStrs(texts) if texts.iter().any(is_long) => {
                error.remove(kind);
            }
            _ => {}
        }
    }
}
