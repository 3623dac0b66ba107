//! The option that selects exit reasons.

use clap::Args;

use super::{EventArgs, GlobList};
use crate::{
    cli::usage::bail_usage,
    tracefs::{Format, ReasonNames, UnknownReason},
};

/// The option that selects exit reasons.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(in crate::cli) struct ReasonArgs {
    /// Select exits by reason, with globs; case does not matter (hlt, npf, 'EPT_*')
    #[arg(long = "reason", value_name = "GLOB")]
    reasons: Vec<GlobList>,
}

impl ReasonArgs {
    /// Returns whether the option was not given, which selects all reasons.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Returns the given patterns.
    pub(in crate::cli) fn patterns(&self) -> Vec<String> {
        GlobList::all(&self.reasons)
    }

    /// Checks that the option has an effect on events of these formats: only `kvm_exit` has a reason.
    ///
    /// # Errors
    /// When the option is given, but `kvm_exit` is not among the formats.
    pub(in crate::cli) fn check_effect(&self, formats: &[Format]) -> anyhow::Result<()> {
        let is_exit = |it: &Format| it.is_event("kvm", "kvm_exit");
        if !self.is_empty() && !formats.iter().any(is_exit) {
            bail_usage!("--reason selects events kvm_exit, which -e does not: add kvm_exit to -e");
        }
        Ok(())
    }

    /// Warns that the option does not concern events other than `kvm_exit`, unless events are selected. They are `treated`, for
    /// example printed. `advice` are the options to add.
    pub(in crate::cli) fn warn_about_other_events(
        &self,
        events: &EventArgs,
        treated: &str,
        advice: &str,
    ) {
        if let Some(option) = self.text()
            && events.given().is_empty()
        {
            log::warn!(
                "{option} applies to kvm_exit; all other events are {treated}, too: add {advice}"
            );
        }
    }

    /// Returns the codes of the selected reasons; `None` if the option was not given. `isa` is the
    /// instruction set of the exits, if it is known.
    ///
    /// # Errors
    /// When no reason matches a pattern.
    pub(in crate::cli) fn codes(
        &self,
        exit: Option<&Format>,
        isa: Option<u32>,
    ) -> Result<Option<Vec<u32>>, UnknownReason> {
        if self.reasons.is_empty() {
            return Ok(None);
        }
        ReasonNames::new(exit)
            .matching_codes(&self.patterns(), isa)
            .map(Some)
    }
}
