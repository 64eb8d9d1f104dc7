// The store as one DuckDB file, asked from Node: the genes nearest to STAT1.
import { DuckDBInstance } from "@duckdb/node-api";

const instance = await DuckDBInstance.create("genes.duckdb", { access_mode: "READ_ONLY" });
const connection = await instance.connect();
const tables = (await connection.runAndReadAll("show tables")).getRows().map((row) => row[0]);
const vectors = tables.find((name) => name.startsWith("vectors_"));
const nearest = await connection.runAndReadAll(`
  select gene.symbol from "${vectors}" as other join genes as gene using (gene_id),
    (select vector from "${vectors}" join genes using (gene_id) where symbol = 'STAT1') as wanted
  where gene.symbol <> 'STAT1'
  order by array_cosine_similarity(other.vector, wanted.vector) desc limit 3`);
console.log(`${tables.length} tables; nearest to STAT1: ${nearest.getRows().flat().join(", ")}`);
