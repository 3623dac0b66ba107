//! A value that a list has twice counts once.

use std::collections::BTreeSet;

use crate::{run, sample::write_mixed_recording, temporary_folder::TemporaryFolder};

#[test]
fn a_value_twice_is_the_same_as_once() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let lists: [(&[&str], &[&str]); 8] = [
        (&["--by", "reason,reason"], &["--by", "reason"]),
        (
            &["--by", "reason", "--by", "vm,reason"],
            &["--by", "reason,vm"],
        ),
        (
            &["--percentiles", "90,p90,90.0,50"],
            &["--percentiles", "90,50"],
        ),
        (
            &["--columns", "time,count,Time"],
            &["--columns", "time,count"],
        ),
        (
            &["--causes", "--cause", "pio,pio"],
            &["--causes", "--cause", "pio"],
        ),
        (&["--reason", "hlt,io,hlt"], &["--reason", "hlt,io"]),
        (&["--vcpu", "0,0-1,0"], &["--vcpu", "0-1"]),
        (
            &["--vm", "*,*", "-p", "1073741824,1073741824"],
            &["--vm", "*", "-p", "1073741824"],
        ),
    ];
    for (twice, once) in lists {
        for format in ["text", "csv"] {
            let output = |list: &[&str]| {
                let args = [&["exits", "-i", file, "--format", format], list].concat();
                let output = run(&args);
                let text = String::from_utf8(output.stdout).expect("UTF-8");
                // The heading has the selection as it was given.
                let lines = text.lines().skip(2).map(str::to_owned);
                (output.status.code(), lines.collect::<Vec<_>>())
            };
            let (twice_output, once_output) = (output(twice), output(once));
            assert_eq!(twice_output, once_output, "{twice:?}");
        }
    }
}

#[test]
fn each_column_of_csv_has_another_name() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    for percentiles in ["50", "50,50", "99,90,50,90"] {
        let args = ["exits", "-i", file, "--csv", "--percentiles", percentiles];
        let text = String::from_utf8(run(&args).stdout).expect("UTF-8");
        let mut lines = text.lines().map(|it| it.split(',').collect::<Vec<_>>());
        let header = lines.next().expect("a header");
        let names: BTreeSet<_> = header.iter().collect();
        assert_eq!(names.len(), header.len(), "{header:?}");
        assert!(names.contains(&"p50_ns"), "{header:?}");
        let row = lines.next().expect("a row");
        assert_eq!(row.len(), header.len(), "{percentiles}");
    }
}
