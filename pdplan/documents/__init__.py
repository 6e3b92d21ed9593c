"""Files that people write: read with care, checked, every error told with its place.

files        read and write; YAML and JSON as data with places
yaml_events  YAML from the parser's events, within limits
validation   a document against a data class, all errors at once
bounds       bounds of values, for `Annotated`
file_kinds   which kind of file a document is
"""
