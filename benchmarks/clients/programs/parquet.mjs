// Parquet read by hyparquet, made an Arrow table, written and read as Arrow IPC.
import { tableFromArrays, tableFromIPC, tableToIPC } from "apache-arrow";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";

const file = await asyncBufferFromFile("genes.parquet");
const rows = await parquetReadObjects({ file, compressors });
const row = rows.find((gene) => gene.symbol === "STAT1");
const table = tableFromArrays({
  gene_id: BigInt64Array.from(rows.map((gene) => BigInt(gene.gene_id))),
  symbol: rows.map((gene) => gene.symbol),
});
const again = tableFromIPC(tableToIPC(table));
if (again.numRows !== rows.length || row.vector.length === 0) throw new Error("rows are lost");
console.log(`${again.numRows} genes, vectors of ${row.vector.length} dimensions; Arrow IPC and back`);
