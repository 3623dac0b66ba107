//! Runs Chromium from the command line on a page.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Names of the program in Debian and other distributions.
const PROGRAM_NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Minimum width of Chromium's windows.
const MIN_WIDTH: u32 = 500;

#[derive(Debug, Clone)]
pub(crate) struct Browser {
    program: &'static str,
    profile: PathBuf,
    time_zone: &'static str,
}

impl Browser {
    /// Finds a browser. The error says what is missing.
    pub(crate) fn find(folder: &Path) -> Result<Self, &'static str> {
        let is_installed = |program: &&str| {
            let output = Command::new(program).arg("--version").output();
            output.is_ok_and(|it| it.status.success())
        };
        match PROGRAM_NAMES.into_iter().find(|it| is_installed(it)) {
            Some(program) => Ok(Self {
                program,
                profile: folder.join("profile"),
                time_zone: "UTC",
            }),
            None => Err("no Chromium to open the page with (Debian's chromium)"),
        }
    }

    /// Returns a browser of a user in this time zone.
    pub(crate) fn in_time_zone(&self, time_zone: &'static str) -> Self {
        Self {
            time_zone,
            ..self.clone()
        }
    }

    fn run(&self, args: &[String]) -> std::io::Result<Output> {
        // The profile stays locked for a moment after Chromium ends. So each run has a new profile.
        let _ = std::fs::remove_dir_all(&self.profile);
        Command::new(self.program)
            .env("TZ", self.time_zone)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
            ])
            .args(["--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", self.profile.display()))
            .arg("--virtual-time-budget=5000")
            .args(args)
            .output()
    }

    /// Returns the HTML of the page after its script has run.
    pub(crate) fn dom(&self, page: &Path, hash: &str) -> std::io::Result<String> {
        let args = [
            "--dump-dom".to_owned(),
            format!("file://{}{hash}", page.display()),
        ];
        let output = self.run(&args)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a script at the end of the page, in a window of this width. Returns the text that the script
    /// assigns to `result`.
    pub(crate) fn run_script(
        &self,
        page: &Path,
        script: &str,
        width: u32,
    ) -> std::io::Result<String> {
        let copy = page.with_extension("script.html");
        let html = std::fs::read_to_string(page)?;
        let script = format!(
            "<script>let result = ''; {script}; document.body.dataset.result = result;</script></body>"
        );
        std::fs::write(&copy, html.replace("</body>", &script))?;
        let output = self.run(&[
            "--dump-dom".to_owned(),
            format!("--window-size={width},900"),
            format!("file://{}", copy.display()),
        ])?;
        let dom = String::from_utf8_lossy(&output.stdout).into_owned();
        let result = dom.split_once("data-result=\"").map(|it| it.1);
        let result = result.and_then(|it| it.split_once('"')).map(|it| it.0);
        std::fs::remove_file(copy)?;
        match result {
            Some(result) => Ok(result.to_owned()),
            None => Err(std::io::Error::other("the script failed")),
        }
    }

    /// Writes a screenshot of the page. A page that is narrower than the minimum width is shown in a frame.
    pub(crate) fn take_screenshot(
        &self,
        page: &Path,
        (width, height): (u32, u32),
        is_dark: bool,
        screenshot: &Path,
    ) -> std::io::Result<()> {
        let frame = screenshot.with_extension("frame.html");
        let mut shown_page = page;
        if width < MIN_WIDTH {
            let file = page.file_name().unwrap_or_default().to_string_lossy();
            std::fs::write(
                &frame,
                format!(
                    "<!doctype html><meta name=color-scheme content='light dark'><style>body{{margin:0}}</style>\
                     <iframe src='{file}' style='border:0;width:{width}px;height:{height}px'></iframe>"
                ),
            )?;
            shown_page = &frame;
        }
        let mut args = vec![
            format!("--screenshot={}", screenshot.display()),
            format!("--window-size={},{height}", width.max(MIN_WIDTH)),
        ];
        if is_dark {
            args.push("--force-dark-mode".into());
            args.push("--blink-settings=preferredColorScheme=0".into());
        }
        args.push(format!("file://{}", shown_page.display()));
        // Remove the screenshot of an earlier run.
        let _ = std::fs::remove_file(screenshot);
        self.run(&args)?;
        let _ = std::fs::remove_file(frame);
        match screenshot.exists() {
            true => Ok(()),
            false => Err(std::io::Error::other("Chromium has written no screenshot")),
        }
    }
}
