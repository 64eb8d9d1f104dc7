process CELLMODEL_RUN {
    tag "$meta.id"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "genekb-cellmodel:0.2.0"

    input:
    tuple val(meta), path(cells)
    path kb

    output:
    tuple val(meta), path("${prefix}.h5ad")        , emit: h5ad
    tuple val(meta), path("${prefix}.html")        , emit: report
    tuple val(meta), path("${prefix}_tables/*.tsv"), emit: tables
    path "versions.yml"                            , emit: versions, topic: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}_named"
    """
    cellmodel run \\
        ${cells} \\
        --kb ./${kb} \\
        --output ${prefix}.h5ad \\
        --report ${prefix}.html \\
        --tables ${prefix}_tables \\
        --threads ${task.cpus} \\
        ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        genekb-cellmodel: \$(cellmodel --version | sed 's/^cellmodel //')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}_named"
    """
    mkdir ${prefix}_tables
    touch ${prefix}.h5ad ${prefix}.html ${prefix}_tables/cells.tsv

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        genekb-cellmodel: \$(cellmodel --version | sed 's/^cellmodel //')
    END_VERSIONS
    """
}
