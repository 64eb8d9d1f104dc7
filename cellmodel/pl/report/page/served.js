
  // genes that the server of this page has: part of the script of `cellmodel view` alone
  const numbers = new Map((payload.served ?? []).map((name, at) => [name, genes.size + at]));
  if (geneField) offerGenes(numbers.keys());
  ask = async (name) => {
    byId("plot-status").textContent = `Reading ${name} …`;
    try {
      genes.set(name, await (await fetch(`gene/${numbers.get(name)}`)).json());
      if (geneField.value.trim().toLowerCase() === name.toLowerCase()) colorByGene(name);
    } catch {
      byId("plot-status").textContent = `${name} cannot be read: the command that serves this page has ended.`;
    }
  };
