//! From a file's bytes to records: archives, compressions and formats, told by
//! what the bytes are, not by what the file is called. Blocking, and bounded in
//! memory whatever the size of the file.
