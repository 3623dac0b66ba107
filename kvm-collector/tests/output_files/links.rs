//! Symbolic links, devices and pipes.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};

use kvm_collector::output_file::{OutputPlace, Previous, written_directory};
use libtest_mimic::Failed;

use crate::{OLD, Setup, check, mode, replacement::REPORTS};

/// A user other than root and the user of the tests.
const OTHER: u32 = 54_321;

pub(crate) fn check_own() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let folder = setup.folder.file("folder");
    fs::create_dir(&folder)?;
    let link = setup.folder.file("link");
    symlink("folder/target", &link)?;
    symlink("folder", setup.folder.file("to-folder"))?;
    // The link remains, and its target is created and replaced.
    for arguments in ["stat -i IN -o OUT", "exits -i IN -o OUT"] {
        setup.succeed(arguments, &link)?;
        check(link.is_symlink(), "the link was replaced".into())?;
        check(mode(&folder.join("target"))? == 0o600, "the mode".into())?;
    }
    setup.succeed("trace -i IN -o OUT", &setup.folder.file("to-folder/new"))?;
    check(folder.join("new").is_file(), "no file".into())?;
    symlink("loop", setup.folder.file("loop"))?;
    setup.fail("stat -i IN -o loop", "symbolic links")
}

/// Returns a directory that everyone can write, and a link in it to the output.
fn shared_link(setup: &Setup, mode: u32) -> Result<PathBuf, Failed> {
    let folder = setup.folder.file("shared");
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
    let link = folder.join("link");
    symlink(&setup.output, &link)?;
    Ok(link)
}

pub(crate) fn check_shared() -> Result<(), Failed> {
    for folder_mode in [0o1777, 0o777] {
        let setup = Setup::new()?;
        let link = shared_link(&setup, folder_mode)?;
        let expected = "is a symbolic link in a directory that other users can write";
        for arguments in REPORTS {
            let to_link = arguments.replace("OUT", &link.display().to_string());
            setup.fail(&to_link, expected)?;
        }
        let to_link = format!("exits -i IN --loss {}", link.display());
        setup.fail(&to_link, expected)?;
        // Nor a link to a folder.
        symlink(setup.folder.file(""), link.with_file_name("to-folder"))?;
        setup.fail("stat -i IN -o shared/to-folder/out", expected)?;
        setup.fail(
            "convert -i IN --partition host -o shared/to-folder/new",
            expected,
        )?;
        // A file in such a directory is written.
        let file = link.with_file_name("file");
        setup.succeed("stat -i IN -o OUT", &file)?;
        check(mode(&file)? == 0o600, "the mode".into())?;
    }
    Ok(())
}

pub(crate) fn check_others() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let link = shared_link(&setup, 0o1777)?;
    let (file, pipe) = (link.with_file_name("file"), link.with_file_name("pipe"));
    fs::write(&file, OLD)?;
    let fifo = rustix::fs::FileType::Fifo;
    let open = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, open, 0)?;
    for path in [&file, &pipe] {
        chown(path, Some(OTHER), Some(OTHER))?;
        let arguments = format!("stat -i IN -o {}", path.display());
        setup.fail(&arguments, "it belongs to another user")?;
    }
    check(
        fs::read(&file)? == OLD.as_bytes(),
        "the file was changed".into(),
    )?;
    // Nor are files of others rotated, nor links, which have an owner too.
    symlink("file", file.with_file_name("out.1"))?;
    rustix::fs::chownat(
        rustix::fs::CWD,
        file.with_file_name("out.1"),
        Some(rustix::fs::Uid::from_raw(OTHER)),
        None,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )?;
    let place = OutputPlace::find(&file.with_file_name("out"))?;
    place.check_previous(Previous::Rotate(1))?;
    let refused = place.check_previous(Previous::Rotate(2));
    let is_named = |it: &std::io::Error| it.to_string().contains("out.1, which belongs to another");
    check(
        refused.as_ref().is_err_and(is_named),
        format!("{refused:?}"),
    )?;
    // A directory of another user: its links are not followed, and its files are replaced.
    let home = setup.folder.file("home");
    fs::create_dir(&home)?;
    let (link, file) = (home.join("link"), home.join("file"));
    symlink(&setup.output, &link)?;
    fs::write(&file, OLD)?;
    for path in [&home, &file] {
        chown(path, Some(OTHER), Some(OTHER))?;
    }
    setup.fail(
        "exits -i IN -o home/link",
        "is a symbolic link in a directory",
    )?;
    setup.succeed("exits -i IN -o OUT", &file)?;
    check(mode(&file)? == 0o600, "the mode".into())?;
    // The user who called sudo may use own links.
    let mut command = setup.command("exits -i IN -o OUT", &link);
    let with_sudo = command.env("SUDO_UID", OTHER.to_string()).output()?;
    check(with_sudo.status.success(), format!("{with_sudo:?}"))?;
    check(mode(&setup.output)? == 0o600, "the mode".into())
}

/// A sandbox needs to know where files are created and renamed.
pub(crate) fn check_directories() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let folder = setup.folder.file("").canonicalize()?;
    let inner = folder.join("inner");
    fs::create_dir(&inner)?;
    symlink("inner/target", folder.join("link"))?;
    let cases = [
        ("out", Some(&folder)),
        ("new", Some(&folder)),
        ("link", Some(&inner)),
        ("inner", Some(&inner)),
        ("inner/", Some(&inner)),
        ("inner/new/folder", Some(&inner)),
        ("inner/../out", Some(&folder)),
        ("/dev/null", None),
        ("/dev/stdout", None),
        ("/proc/self/fd/1", None),
    ];
    for (path, expected) in cases {
        let found = written_directory(&folder.join(path))?;
        check(found.as_ref() == expected, format!("{path}: {found:?}"))?;
    }
    check(
        written_directory(Path::new("-"))?.is_none(),
        "stdout".into(),
    )
}

pub(crate) fn check_special() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let plain = setup.succeed("exits -i IN", &setup.output)?.stdout;
    check(!plain.is_empty(), "no report".into())?;
    for name in ["-", "/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"] {
        let written = setup.succeed("exits -i IN -o OUT", name.as_ref())?.stdout;
        check(written == plain, format!("{name}: another report"))?;
    }
    for arguments in REPORTS {
        setup.succeed(arguments, "/dev/null".as_ref())?;
        setup.fail(
            &arguments.replace("OUT", "/dev/full"),
            "cannot write to /dev/full",
        )?;
    }
    // A file to which stdout is redirected is appended to.
    let file = fs::File::options().append(true).open(&setup.output)?;
    let mut command = setup.command("exits -i IN -o /dev/stdout", &setup.output);
    check(
        command.stdout(file).status()?.success(),
        "/dev/stdout".into(),
    )?;
    let written = fs::read(&setup.output)?;
    check(
        written == [OLD.as_bytes(), &plain].concat(),
        "appended".into(),
    )?;
    // A named pipe.
    let pipe = setup.folder.file("pipe");
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0)?;
    let mut command = setup.command("exits -i IN -o OUT", &pipe);
    let mut running = command.stderr(Stdio::null()).spawn()?;
    let mut written = Vec::new();
    fs::File::open(&pipe)?.read_to_end(&mut written)?;
    check(
        running.wait()?.success() && written == plain,
        "the pipe".into(),
    )
}
