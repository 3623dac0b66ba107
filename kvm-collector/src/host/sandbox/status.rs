//! What restricts this process.

use caps::Capability;

/// The state of a layer of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// It is in force: how far.
    On(String),
    /// It is not: why.
    Off(String),
}

/// What restricts this process since it has entered the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The remaining capabilities; an error if they could not be dropped.
    pub capabilities: Result<Vec<Capability>, String>,
    /// Whether programs that this process runs get no more privileges.
    pub no_new_privs: Result<(), String>,
    /// Restriction of files.
    pub landlock: Layer,
    /// Restriction of system calls.
    pub seccomp: Layer,
}

impl InForce {
    /// Returns whether all layers are in force.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.capabilities.is_ok()
            && self.no_new_privs.is_ok()
            && [&self.landlock, &self.seccomp]
                .iter()
                .all(|it| matches!(it, Layer::On(_)))
    }

    /// Returns a description of one line.
    #[must_use]
    pub fn to_text(&self) -> String {
        let capabilities = match &self.capabilities {
            Ok(kept) if kept.is_empty() => "no capabilities".to_owned(),
            Ok(kept) => {
                let names: Vec<_> = kept.iter().map(ToString::to_string).collect();
                format!("only {}", names.join(", "))
            }
            Err(error) => format!("capabilities not dropped ({error})"),
        };
        let no_new_privs = match &self.no_new_privs {
            Ok(()) => "no_new_privs".to_owned(),
            Err(error) => format!("no_new_privs not set ({error})"),
        };
        let layer = |name: &str, layer: &Layer| match layer {
            Layer::On(extent) => format!("{name} ({extent})"),
            Layer::Off(reason) => format!("no {name} ({reason})"),
        };
        [
            capabilities,
            no_new_privs,
            layer("Landlock", &self.landlock),
            layer("seccomp", &self.seccomp),
        ]
        .join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_force_is_named_with_the_reason() {
        let all = InForce {
            capabilities: Ok(Vec::new()),
            no_new_privs: Ok(()),
            landlock: Layer::On("ABI 7".to_owned()),
            seccomp: Layer::On("70 system calls".to_owned()),
        };
        assert!(all.is_complete());
        assert_eq!(
            all.to_text(),
            "no capabilities; no_new_privs; Landlock (ABI 7); seccomp (70 system calls)"
        );
        let part = InForce {
            capabilities: Ok(vec![Capability::CAP_BPF, Capability::CAP_KILL]),
            no_new_privs: Err("old".to_owned()),
            landlock: Layer::Off("not enabled".to_owned()),
            ..all
        };
        assert!(!part.is_complete());
        assert_eq!(
            part.to_text(),
            "only CAP_BPF, CAP_KILL; no_new_privs not set (old); no Landlock (not enabled); seccomp (70 system calls)"
        );
    }
}
