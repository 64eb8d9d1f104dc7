import pytest

from genekb.core.errors import SourceUnusable
from genekb.files.tables import read_list, read_table


@pytest.mark.parametrize(("read", "name"), [(read_list, "genes.txt.gz"), (read_table, "table.csv.gz")])
def test_a_file_named_gz_that_is_not_gzipped_is_one_line_with_what_to_do(read, name, tmp_path):
    (tmp_path / name).write_text("gene\nTP53\n", encoding="utf-8")
    with pytest.raises(SourceUnusable, match=r"it is named \.gz, but is not gzipped; take \.gz off its name, or zip"):
        read(tmp_path / name, "a list of genes")
