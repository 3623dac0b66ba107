//! A recording may be from another user, so what it contains is never used as a path.

use std::{fs, mem::MaybeUninit, os::unix::fs::symlink, path::Path};

use kvm_collector::{
    model::ThreadId,
    recording::{HostFacts, Recorder, RecorderOptions},
};
use libtest_mimic::Failed;
use rustix::fs::inotify;

use crate::{
    Setup, check,
    raw_record::recorded_events,
    replacement::REPORTS,
    sample::{TGID, record},
};

/// Text in a recording that is a path, everywhere where text is possible. A program in it would be executed if the
/// collector ran it. Inotify reports whether a file in the folder is opened.
pub(crate) fn check_paths() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let bait = setup.folder.file("bait");
    fs::create_dir(&bait)?;
    let file = bait.join("file");
    fs::write(&file, "#!/bin/sh\ntouch \"$0.executed\"\n")?;
    write_recording(&setup.input, &file)?;
    let names = |output: &[u8]| String::from_utf8_lossy(output).contains("bait");
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let flags = inotify::WatchFlags::OPEN
        | inotify::WatchFlags::ACCESS
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::MOVE;
    inotify::add_watch(&watch, &bait, flags)?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut is_opened = || inotify::Reader::new(&watch, &mut buffer).next().is_ok();
    check(!is_opened(), "opened too early".into())?;
    for arguments in REPORTS {
        setup.succeed(arguments, &setup.output)?;
    }
    let with_names = setup.succeed("stat -i IN --json", &setup.output)?.stdout;
    check(names(&with_names), "the path is not in the report".into())?;
    setup.succeed("list -i IN", &setup.output)?;
    setup.succeed("top -i IN --once", &setup.output)?;
    check(
        !is_opened(),
        "a file that the recording names was opened".into(),
    )?;
    // The test would notice it.
    fs::read(&file)?;
    check(is_opened(), "inotify reports nothing".into())
}

/// Files of the kernel have the size 0. Reading some of them takes data away or waits for more, so none of them is read if it is
/// found in a folder: these have a text, which is not noticed.
pub(crate) fn check_links() -> Result<(), Failed> {
    let setup = Setup::new()?;
    fs::create_dir(setup.folder.file("folder"))?;
    for link in ["link", "folder/data"] {
        symlink("/proc/version", setup.folder.file(link))?;
    }
    // A link to itself is no file.
    symlink("loop", setup.folder.file("loop"))?;
    for arguments in ["exits -i .", "stat -i *", "exits -i folder kvm.data"] {
        let result = setup.run(arguments)?;
        let stderr = String::from_utf8_lossy(&result.stderr);
        let links = ["link", "folder/data"];
        let says = |text: &str| {
            links
                .iter()
                .any(|it| stderr.contains(&format!("{it}: {text}")))
        };
        let is_read = says("no recording, but text") || stderr.contains("loop");
        check(
            says("no recording, but empty") && !is_read,
            format!("{arguments}: {result:?}"),
        )?;
    }
    Ok(())
}

fn write_recording(path: &Path, file: &Path) -> Result<(), Failed> {
    let text = file.display().to_string();
    let (mut events, formats) = recorded_events(&[("kvm", "kvm_entry"), ("kvm", "kvm_exit")]);
    for event in &mut events {
        event.format = event.format.replace("vcpu %u", &format!("{text} %u"));
    }
    let mut facts = HostFacts {
        command: vec![text.clone(), text.clone()],
        ..HostFacts::default()
    };
    facts.machine.hostname.clone_from(&text);
    facts.machine.release.clone_from(&text);
    facts.machine.cpu_desc = Some(text.clone());
    facts.machine.boot_id = Some(text.clone());
    facts.kernel_formats.printk_formats = format!("0xffffffff81000000 : \"{text}\"\n").into();
    let options = RecorderOptions {
        path: Some(path.to_owned()),
        ..RecorderOptions::default()
    };
    let mut recorder = Recorder::new(options, &events, &facts)?;
    recorder.set_vm_name(TGID, text.clone());
    let (tgid, tid) = (TGID, TGID);
    recorder.set_thread_name(ThreadId { tgid, tid }, text);
    let entry = (0, vec![("vcpu_id", 0)]);
    let exit = (1, vec![("vcpu_id", 0), ("isa", 2), ("exit_reason", 0x78)]);
    let recorded = (0..40).map(|number| [&entry, &exit][number % 2].clone());
    record(recorder, &formats, recorded.collect());
    Ok(())
}
