//! What the collector and the process that lists VMs send to each other: requests of a fixed size, and answers
//! with their length, in JSON.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// Maximum size of an answer. A VM takes about 150 bytes, and a vCPU 50.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A request to the process that lists VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// List all VMs.
    List,
    /// Read what the vCPUs of a VM in the latest list do. The VM has this process id.
    Vcpus(u32),
}

impl Request {
    const BYTES: usize = 5;

    pub(super) fn write(self, out: &mut impl Write) -> io::Result<()> {
        let (kind, tgid) = match self {
            Self::List => (b'L', 0),
            Self::Vcpus(tgid) => (b'V', tgid),
        };
        let mut bytes = [kind; Self::BYTES];
        bytes[1..].copy_from_slice(&tgid.to_le_bytes());
        out.write_all(&bytes)
    }

    /// Reads the next request. `None` if it is invalid.
    ///
    /// # Errors
    /// Also at the end of the input.
    pub(super) fn read(input: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = [0; Self::BYTES];
        input.read_exact(&mut bytes)?;
        let [kind, tgid @ ..] = bytes;
        Ok(match kind {
            b'L' => Some(Self::List),
            b'V' => Some(Self::Vcpus(u32::from_le_bytes(tgid))),
            _ => None,
        })
    }
}

/// Writes an answer: the result of a request, with the error as text.
pub(super) fn write_answer<T: Serialize>(
    answer: &Result<T, String>,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut json = serde_json::to_vec(answer)?;
    if json.len() > MAX_ANSWER_BYTES {
        let text = format!(
            "the list of VMs has {} bytes, and at most {MAX_ANSWER_BYTES} are read",
            json.len()
        );
        json = serde_json::to_vec(&Err::<(), _>(text))?;
    }
    let bytes = u32::try_from(json.len()).map_err(io::Error::other)?;
    out.write_all(&bytes.to_le_bytes())?;
    out.write_all(&json)
}

/// Reads an answer.
///
/// # Errors
/// Of kind [`io::ErrorKind::InvalidData`] if the answer is too long or is not the requested type.
pub(super) fn read_answer<T: DeserializeOwned>(
    input: &mut impl Read,
) -> io::Result<Result<T, String>> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    let bytes = u32::from_le_bytes(bytes) as usize;
    if bytes > MAX_ANSWER_BYTES {
        let text = format!("it has {bytes} bytes, and at most {MAX_ANSWER_BYTES} are read");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    // Memory is allocated as bytes arrive.
    let mut json = Vec::new();
    let read = input.take(bytes as u64).read_to_end(&mut json)?;
    if read < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&json).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{
        Vcpu, VmUuid,
        vm::{Vm, VmList},
    };

    fn list() -> VmList {
        VmList {
            vms: vec![Vm {
                tgid: 7,
                name: "a\u{1b}\"b".to_owned(),
                uuid: VmUuid::parse("1b4e28ba-2fa1-11d2-883f-0016d3cca427"),
                vmm: "qemu".to_owned(),
                vcpus: vec![Vcpu {
                    index: None,
                    tid: 8,
                    comm: "x".to_owned(),
                }],
            }],
            unreadable: 3,
        }
    }

    #[test]
    fn requests_and_answers_arrive_unchanged() {
        for request in [Request::List, Request::Vcpus(0x0102_0304)] {
            let mut bytes = Vec::new();
            request.write(&mut bytes).unwrap();
            let read = Request::read(&mut bytes.as_slice()).unwrap();
            assert_eq!(read, Some(request));
        }
        assert_eq!(Request::read(&mut [b'x'; 5].as_slice()).unwrap(), None);
        for answer in [Ok(list()), Err("cannot read".to_owned())] {
            let mut bytes = Vec::new();
            write_answer(&answer, &mut bytes).unwrap();
            let read = read_answer::<VmList>(&mut bytes.as_slice()).unwrap();
            assert_eq!(read, answer);
        }
    }

    #[test]
    fn short_long_and_wrong_answers_are_errors() {
        let mut whole = Vec::new();
        write_answer(&Ok(list()), &mut whole).unwrap();
        let kind = |bytes: &[u8]| read_answer::<VmList>(&mut &*bytes).unwrap_err().kind();
        for end in [0, 3, 4, whole.len() - 1] {
            assert_eq!(kind(&whole[..end]), io::ErrorKind::UnexpectedEof, "{end}");
        }
        assert_eq!(kind(&[255; 8]), io::ErrorKind::InvalidData);
        assert_eq!(kind(&[2, 0, 0, 0, b'{', b'}']), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_list_that_is_too_long_is_answered_with_an_error() {
        let mut list = list();
        list.vms[0].name = "x".repeat(MAX_ANSWER_BYTES);
        let mut bytes = Vec::new();
        write_answer(&Ok(list), &mut bytes).unwrap();
        assert!(bytes.len() < 1000);
        let read = read_answer::<VmList>(&mut bytes.as_slice()).unwrap();
        assert!(read.unwrap_err().contains("at most"));
    }
}
