package ai.edgekit.core

import java.io.File
import kotlin.test.assertEquals

/** trim_cases.json: what is dropped around a prompt. */
fun promptTrimTests(data: TestData): Tests = mapOf("prompts: white space is dropped as all ports do" to {
    val cases = readFields(File(data.repository, "tests/conformance/trim_cases.json")).list("cases")
    check(cases.size > 20)
    for (case in cases.map { JsonFields.of(it) }) {
        assertEquals(case.text("trimmed"), PromptTrim.of(case.text("trim")).trimmed(case.text("prompt")))
    }
})
