//! The page in a real browser, as far as one can be asked from a command line.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The names Debian and others have for it.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// No window is narrower.
const LEAST_WIDTH: u32 = 500;

#[derive(Debug, Clone)]
pub(crate) struct Browser {
    program: &'static str,
    profile: PathBuf,
}

impl Browser {
    /// Why there is none, otherwise.
    pub(crate) fn find(folder: &Path) -> Result<Self, &'static str> {
        let answers = |program: &&str| {
            let said = Command::new(program).arg("--version").output();
            said.is_ok_and(|it| it.status.success())
        };
        match NAMES.into_iter().find(|it| answers(it)) {
            Some(program) => Ok(Self {
                program,
                profile: folder.join("profile"),
            }),
            None => Err("no Chromium to open the page with (Debian's chromium)"),
        }
    }

    fn run(&self, args: &[String]) -> std::io::Result<Output> {
        // It keeps a lock in its profile for a moment after its end: each run has a new one.
        let _ = std::fs::remove_dir_all(&self.profile);
        Command::new(self.program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
            ])
            .args(["--no-first-run", "--disable-background-networking"])
            .args([
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", self.profile.display()))
            .arg("--virtual-time-budget=5000")
            .args(args)
            .output()
    }

    /// The page as it is after its script has run.
    pub(crate) fn dom(&self, page: &Path, hash: &str) -> std::io::Result<String> {
        let args = [
            "--dump-dom".to_owned(),
            format!("file://{}{hash}", page.display()),
        ];
        let output = self.run(&args)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A picture of the page. What is narrower than a window can be is shown in a frame.
    pub(crate) fn picture(
        &self,
        page: &Path,
        (width, height): (u32, u32),
        dark: bool,
        picture: &Path,
    ) -> std::io::Result<()> {
        let frame = picture.with_extension("frame.html");
        let mut shown = page;
        if width < LEAST_WIDTH {
            let file = page.file_name().unwrap_or_default().to_string_lossy();
            std::fs::write(
                &frame,
                format!(
                    "<!doctype html><meta name=color-scheme content='light dark'><style>body{{margin:0}}</style>\
                     <iframe src='{file}' style='border:0;width:{width}px;height:{height}px'></iframe>"
                ),
            )?;
            shown = &frame;
        }
        let mut args = vec![
            format!("--screenshot={}", picture.display()),
            format!("--window-size={},{height}", width.max(LEAST_WIDTH)),
        ];
        if dark {
            args.push("--force-dark-mode".into());
            args.push("--blink-settings=preferredColorScheme=0".into());
        }
        args.push(format!("file://{}", shown.display()));
        // What an earlier run left is no picture of this page.
        let _ = std::fs::remove_file(picture);
        self.run(&args)?;
        let _ = std::fs::remove_file(frame);
        match picture.exists() {
            true => Ok(()),
            false => Err(std::io::Error::other("no picture was made")),
        }
    }
}
