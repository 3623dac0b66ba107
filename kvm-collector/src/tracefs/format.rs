//! STUB
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    Integer,
    Bool,
    Other,
}
#[derive(Debug)]
pub struct Field {
    pub name: String,
    pub offset: usize,
    pub size: usize,
    pub signed: bool,
    pub kind: FieldKind,
}
#[derive(Debug)]
pub struct Format {
    pub system: String,
    pub name: String,
    pub id: u16,
    pub fields: Vec<Field>,
    pub sym: Vec<(u64, String)>,
}
#[derive(Debug, thiserror::Error)]
#[error("bad format")]
pub struct FormatError;
impl Field {
    pub fn bytes<'a>(&self, r: &'a [u8]) -> Option<&'a [u8]> {
        r.get(self.offset..self.offset + self.size)
    }
    pub fn read_u64(&self, r: &[u8]) -> Option<u64> {
        let b = self.bytes(r)?;
        let mut v = [0u8; 8];
        v.get_mut(..b.len())?.copy_from_slice(b);
        Some(u64::from_le_bytes(v))
    }
    pub fn read_i64(&self, r: &[u8]) -> Option<i64> {
        Some(self.read_u64(r)? as i32 as i64)
    }
}
impl Format {
    pub fn parse(system: &str, text: &str) -> Result<Self, FormatError> {
        let mut f = Format {
            system: system.into(),
            name: String::new(),
            id: 0,
            fields: vec![],
            sym: vec![],
        };
        for l in text.lines() {
            if let Some(n) = l.strip_prefix("name: ") {
                f.name = n.into();
            }
            if let Some(n) = l.strip_prefix("ID: ") {
                f.id = n.parse().unwrap();
            }
            if let Some(d) = l.trim().strip_prefix("field:") {
                let p: Vec<_> = d.split(';').map(str::trim).collect();
                let name = p[0].rsplit(' ').next().unwrap();
                let g = |k: &str| {
                    p.iter()
                        .find_map(|x| x.strip_prefix(k))
                        .unwrap()
                        .parse::<usize>()
                        .unwrap()
                };
                if name.starts_with("common_") {
                    continue;
                }
                let size = g("size:");
                f.fields.push(Field {
                    name: name.into(),
                    offset: g("offset:"),
                    size,
                    signed: g("signed:") == 1,
                    kind: if p[0].starts_with("bool") {
                        FieldKind::Bool
                    } else if size <= 8 && !name.contains('[') {
                        FieldKind::Integer
                    } else {
                        FieldKind::Other
                    },
                });
            }
        }
        Ok(f)
    }
    pub fn field(&self, n: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == n)
    }
    pub fn fixed_size(&self) -> usize {
        self.fields
            .iter()
            .map(|f| f.offset + f.size)
            .max()
            .unwrap_or(8)
            .next_multiple_of(8)
    }
    pub fn has_dynamic(&self) -> bool {
        false
    }
    pub fn print(&self, r: &[u8], out: &mut Vec<u8>) {
        self.print_fields(r, out)
    }
    pub fn print_fields(&self, r: &[u8], out: &mut Vec<u8>) {
        use std::io::Write;
        for f in &self.fields {
            let _ = write!(out, "{}={:x} ", f.name, f.read_u64(r).unwrap_or(0));
        }
    }
    pub fn symbol(&self, _l: &str, _f: &[(&str, u64)]) -> Option<String> {
        None
    }
    pub fn symbols(&self, _l: &str, _f: &[(&str, u64)]) -> Vec<(u64, String)> {
        vec![]
    }
}
