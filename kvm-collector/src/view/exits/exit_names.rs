//! Names of single exits. Each name is looked up once.

use std::collections::HashMap;

use kvm_ebpf_common::Key;

use super::KeyNames;
use crate::{
    model::{Exit, capacity::MAX_KEY_NAMES},
    timing::TimingRequest,
};

/// Names of the reasons and causes of exits.
#[derive(Debug)]
pub struct ExitNames {
    timing: TimingRequest,
    reasons: HashMap<Key, ReasonName>,
    causes: HashMap<Key, CauseName>,
}

/// Names of an exit reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasonName {
    /// The kernel's name of the reason.
    pub reason: Box<str>,
    /// The processor extension that defines it: `vmx`, `svm` or `arm64`.
    pub isa: &'static str,
    /// Whether the guest has nothing to do after this exit.
    pub is_halt: bool,
}

/// Names of the cause of an exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CauseName {
    /// The name of its kind, such as `pio`.
    pub kind: Box<str>,
    /// The number in the label, such as a port or an address.
    pub code: u64,
    /// The label, such as `port 0x3f8 out`.
    pub label: Box<str>,
    /// The known name of the number, such as `COM1 data`.
    pub name: Option<Box<str>>,
}

impl ExitNames {
    /// Creates the names of exits that are timed by a request.
    #[must_use]
    pub fn new(timing: TimingRequest) -> Self {
        Self {
            timing,
            reasons: HashMap::new(),
            causes: HashMap::new(),
        }
    }

    /// Returns the request by which the exits are timed.
    #[must_use]
    pub fn timing(&self) -> &TimingRequest {
        &self.timing
    }

    /// Returns the names of an exit's reason, and of its cause if it has one.
    pub fn of_exit(&mut self, exit: &Exit) -> (&ReasonName, Option<&CauseName>) {
        let Self {
            timing,
            reasons,
            causes,
        } = self;
        if reasons.len() >= MAX_KEY_NAMES {
            reasons.clear();
        }
        if causes.len() >= MAX_KEY_NAMES {
            causes.clear();
        }
        let timing = &*timing;
        let reason = reasons.entry(exit.key).or_insert_with(|| {
            let names = KeyNames::new(timing);
            ReasonName {
                reason: names.reason(exit.key).into(),
                isa: names.reasons.isa_name(exit.key.subcode),
                is_halt: names.is_halt(exit.key),
            }
        });
        let cause = exit.cause.map(|key| {
            &*causes
                .entry(key)
                .or_insert_with(|| cause_name(&KeyNames::new(timing), key))
        });
        (reason, cause)
    }
}

fn cause_name(names: &KeyNames<'_>, key: Key) -> CauseName {
    let kind = names.cause_kind(key).map_or("", |(kind, _)| &kind.name);
    CauseName {
        kind: kind.into(),
        code: key.code << names.cause_code_shift(key),
        label: names.cause_label(key).into(),
        name: names.known_cause_name(key).map(Into::into),
    }
}
