//! Writes GGUF version 3. Layout: ggml's `gguf.h`.

use std::ops::Range;

use onebit_ir::quant::Format;

const ALIGNMENT: usize = 32;

/// A metadata value. Strings are bytes, because token strings need not be UTF-8.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataValue {
    U8(u8),
    U32(u32),
    I32(i32),
    U64(u64),
    F32(f32),
    Bool(bool),
    String(Vec<u8>),
    /// All of one kind, that of the first; without any, an array of `u8`.
    Array(Vec<MetadataValue>),
}

impl From<u32> for MetadataValue {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<usize> for MetadataValue {
    /// As `u32`, the type of sizes in published models.
    fn from(value: usize) -> Self {
        Self::U32(value.try_into().expect("a size that fits in 32 bits"))
    }
}

impl From<i32> for MetadataValue {
    fn from(value: i32) -> Self {
        Self::I32(value)
    }
}

impl From<f32> for MetadataValue {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

impl From<bool> for MetadataValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for MetadataValue {
    fn from(value: &str) -> Self {
        Self::String(value.into())
    }
}

impl From<Vec<u8>> for MetadataValue {
    fn from(value: Vec<u8>) -> Self {
        Self::String(value)
    }
}

impl<T: Into<MetadataValue>> FromIterator<T> for MetadataValue {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}

impl MetadataValue {
    fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(v) => out.push(*v),
            Self::U32(v) => out.extend(v.to_le_bytes()),
            Self::I32(v) => out.extend(v.to_le_bytes()),
            Self::U64(v) => out.extend(v.to_le_bytes()),
            Self::F32(v) => out.extend(v.to_le_bytes()),
            Self::Bool(v) => out.push(u8::from(*v)),
            Self::String(v) => write_string(out, v),
            Self::Array(values) => {
                out.extend(values.first().map_or(0, Self::type_id).to_le_bytes());
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| value.write(out));
            }
        }
    }
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    type_id: u32,
    /// Outermost first.
    shape: Vec<u64>,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    Bytes(Vec<u8>),
    /// So many bytes that somebody else writes.
    Later(u64),
    /// Bytes from the start of the data, whatever is there.
    At(u64),
}

/// Where everything of a file lies, for files too large to be held in memory.
#[derive(Clone, Debug)]
pub struct GgufLayout {
    /// The bytes before the first tensor's data.
    pub header: Vec<u8>,
    /// Name and place in the file of each tensor that has data of its own, in file order.
    pub tensors: Vec<(String, Range<u64>)>,
}

impl GgufLayout {
    /// Bytes of the whole file.
    pub fn length(&self) -> u64 {
        self.tensors.last().map_or(self.header.len() as u64, |(_, range)| range.end)
    }
}

/// A GGUF being written. Shapes are given outermost first, as everywhere but in the file.
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    entries: Vec<(String, MetadataValue)>,
    tensors: Vec<Tensor>,
}

impl GgufWriter {
    /// A file without entries or tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`, in its old place if it was set before.
    pub fn set(&mut self, key: &str, value: impl Into<MetadataValue>) -> &mut Self {
        let value = value.into();
        match self.entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key.to_owned(), value)),
        }
        self
    }

    /// Adds an entry even if the key is there already, which no valid file has.
    pub fn push(&mut self, key: &str, value: impl Into<MetadataValue>) -> &mut Self {
        self.entries.push((key.to_owned(), value.into()));
        self
    }

    /// Removes `key`; panics if it is not set.
    pub fn unset(&mut self, key: &str) -> &mut Self {
        let before = self.entries.len();
        self.entries.retain(|(known, _)| known != key);
        assert_eq!(self.entries.len() + 1, before, "{key} is set once");
        self
    }

    /// Adds a tensor of encoded `bytes`, which must be as many as format and shape say.
    pub fn tensor(
        &mut self,
        name: &str,
        format: Format,
        shape: &[usize],
        bytes: Vec<u8>,
    ) -> &mut Self {
        assert_eq!(bytes.len(), encoded_bytes(format, shape), "{name} {shape:?}");
        self.add(name, format, shape, Data::Bytes(bytes))
    }

    /// Adds a tensor whose bytes are written by whoever asks for the [`layout`](Self::layout).
    pub fn tensor_later(&mut self, name: &str, format: Format, shape: &[usize]) -> &mut Self {
        let bytes = encoded_bytes(format, shape) as u64;
        self.add(name, format, shape, Data::Later(bytes))
    }

    fn add(&mut self, name: &str, format: Format, shape: &[usize], data: Data) -> &mut Self {
        let shape = shape.iter().map(|&size| size as u64).collect();
        let type_id = format.info().ggml_type;
        self.tensors.push(Tensor { name: name.into(), type_id, shape, data });
        self
    }

    /// Adds an F32 tensor.
    pub fn tensor_f32(&mut self, name: &str, shape: &[usize], values: &[f32]) -> &mut Self {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, Format::F32, shape, bytes)
    }

    /// Adds a record without data of its own, which need not be valid: any type id, any sizes,
    /// any offset from the start of the data.
    pub fn record(&mut self, name: &str, type_id: u32, shape: &[u64], offset: u64) -> &mut Self {
        let shape = shape.to_vec();
        self.tensors.push(Tensor { name: name.into(), type_id, shape, data: Data::At(offset) });
        self
    }

    /// Removes a tensor; panics if it is not there.
    pub fn remove_tensor(&mut self, name: &str) -> &mut Self {
        let before = self.tensors.len();
        self.tensors.retain(|tensor| tensor.name != name);
        assert_eq!(self.tensors.len() + 1, before, "tensor {name} is there once");
        self
    }

    /// Names of the tensors, in file order.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|tensor| tensor.name.as_str())
    }

    /// The bytes of the file. Panics if a tensor's bytes were to come later.
    pub fn finish(&self) -> Vec<u8> {
        let GgufLayout { header: mut out, tensors: places } = self.layout();
        let mut places = places.into_iter();
        for tensor in &self.tensors {
            match &tensor.data {
                Data::At(_) => {}
                Data::Later(_) => panic!("tensor {} has no bytes yet", tensor.name),
                Data::Bytes(bytes) => {
                    let (_, place) = places.next().expect("a place for every tensor with data");
                    out.resize(place.start as usize, 0);
                    out.extend(bytes);
                }
            }
        }
        out
    }

    /// The file without its tensors' data, and where that belongs.
    pub fn layout(&self) -> GgufLayout {
        let mut header = b"GGUF".to_vec();
        header.extend(3u32.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            write_string(&mut header, key.as_bytes());
            header.extend(value.type_id().to_le_bytes());
            value.write(&mut header);
        }
        let mut end: u64 = 0;
        let mut tensors = Vec::new();
        for tensor in &self.tensors {
            let mut place = |length: u64| {
                let start = end.next_multiple_of(ALIGNMENT as u64);
                end = start + length;
                tensors.push((tensor.name.clone(), start..end));
                start
            };
            let offset = match &tensor.data {
                Data::At(offset) => *offset,
                Data::Later(length) => place(*length),
                Data::Bytes(bytes) => place(bytes.len() as u64),
            };
            write_string(&mut header, tensor.name.as_bytes());
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().rev().for_each(|size| header.extend(size.to_le_bytes()));
            header.extend(tensor.type_id.to_le_bytes());
            header.extend(offset.to_le_bytes());
        }
        pad(&mut header);
        let data = header.len() as u64;
        for (_, place) in &mut tensors {
            *place = data + place.start..data + place.end;
        }
        GgufLayout { header, tensors }
    }
}

/// Bytes of a tensor; panics unless its rows are whole blocks.
fn encoded_bytes(format: Format, shape: &[usize]) -> usize {
    let (width, rows) = shape.split_last().expect("a shape with dimensions");
    let row_bytes = format.row_bytes(*width).expect("rows of whole blocks");
    row_bytes * rows.iter().product::<usize>()
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}
