//! Tips for errors of the argument parser: what the user could have meant. They are derived from the options of all
//! subcommands.

use std::path::Path;

use clap::{
    Arg, Command, Error,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::tracefs::{did_you_mean, similar_names};

/// Adds a tip to an error: how a command or a file is given, which subcommand has an option, or which value is similar.
/// `program` is the whole command line; `name` is the subcommand of the error.
pub(super) fn add_tip(error: &mut Error, program: &Command, name: Option<&str>) {
    let Some(command) = name.and_then(|it| program.find_subcommand(it)) else {
        return;
    };
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (argument, value) = (
        text(ContextKind::InvalidArg),
        text(ContextKind::InvalidValue),
    );
    let tip = match (error.kind(), argument, value) {
        (ErrorKind::UnknownArgument, Some(option), _) if option.starts_with('-') => {
            unknown_option(&option, program, command)
        }
        (ErrorKind::UnknownArgument, Some(argument), _) => positional(&argument, command),
        (ErrorKind::InvalidValue, Some(argument), Some(value)) => {
            let is_positional = !argument.starts_with('-');
            let file = (is_positional && looks_like_file(&value))
                .then(|| positional(&value, command))
                .flatten();
            file.or_else(|| similar_value(&value, error))
        }
        _ => None,
    };
    let Some(tip) = tip else { return };
    // The parser's own guesses would contradict the tip.
    for kind in [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
        ContextKind::ValidValue,
        ContextKind::Usage,
    ] {
        error.remove(kind);
    }
    let tip = ContextValue::StyledStrs(vec![tip.into()]);
    error.insert(ContextKind::Suggested, tip);
}

/// Returns the tip for an argument that is not expected: it is a file or a command.
fn positional(argument: &str, command: &Command) -> Option<String> {
    let has = |id: &str| command.get_arguments().any(|it| it.get_id() == id);
    if looks_like_file(argument) {
        if has("input") {
            return Some(format!("to read a recording, use `-i {argument}`"));
        }
        if has("output") {
            return Some(format!("to write to a file, use `-o {argument}`"));
        }
    }
    has("command").then(|| format!("to run a command, put `--` before it: `-- {argument} ...`"))
}

fn looks_like_file(argument: &str) -> bool {
    argument.contains(['.', '/']) || Path::new(argument).is_file()
}

/// Returns the tip for an unknown option: it is a value of an option of this subcommand, or an option of others.
fn unknown_option(option: &str, program: &Command, command: &Command) -> Option<String> {
    let option = option.split('=').next().unwrap_or(option);
    if let Some(value) = option.strip_prefix("--")
        && let Some(with_value) = option_with_value(value, command)
    {
        return Some(format!("use `--{with_value} {value}`"));
    }
    let is_meant = |arg: &Arg| match option.strip_prefix("--") {
        Some(long) => {
            let names = arg.get_long_and_visible_aliases().unwrap_or_default();
            names.contains(&long)
        }
        None => arg.get_short().is_some_and(|it| option == format!("-{it}")),
    };
    let others = program
        .get_subcommands()
        .filter(|it| it.get_name() != command.get_name() && it.get_arguments().any(is_meant));
    let names: Vec<_> = others.map(|it| format!("`{}`", it.get_name())).collect();
    let names = match names.as_slice() {
        [] => return None,
        [name] => name.clone(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    };
    Some(format!(
        "`{option}` is an option of {names}, not of `{}`",
        command.get_name()
    ))
}

/// Returns the name of an option that has this value.
fn option_with_value<'a>(value: &str, command: &'a Command) -> Option<&'a str> {
    let has_value = |arg: &&Arg| {
        let values = arg.get_possible_values();
        values.iter().any(|it| it.get_name() == value)
    };
    command
        .get_arguments()
        .filter(has_value)
        .find_map(Arg::get_long)
}

/// Returns the tip for a value that is similar to valid ones.
fn similar_value(value: &str, error: &Error) -> Option<String> {
    let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue) else {
        return None;
    };
    let similar = similar_names(valid.iter().map(String::as_str), value);
    let question = did_you_mean(&similar);
    Some(question.strip_prefix(": ")?.to_owned())
}
