package ai.edgekit.demo

import ai.edgekit.core.CaseReport
import androidx.activity.compose.rememberLauncherForActivityResult
import androidx.activity.result.contract.ActivityResultContracts
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.lazy.LazyColumn
import androidx.compose.foundation.lazy.items
import androidx.compose.material3.Button
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.Text
import androidx.compose.material3.TextButton
import androidx.compose.runtime.Composable
import androidx.compose.ui.platform.LocalContext
import androidx.compose.ui.res.stringResource
import androidx.compose.ui.text.font.FontFamily
import androidx.compose.ui.unit.dp
import kotlin.math.roundToInt

/** Replays the bundle's conformance cases on this phone and saves what came out. */
@Composable
fun SelfTestPage(model: DemoModel) {
    val resolver = LocalContext.current.contentResolver
    val save = rememberLauncherForActivityResult(ActivityResultContracts.CreateDocument("application/json")) { uri ->
        if (uri != null) {
            model.saveReport { json -> resolver.openOutputStream(uri)?.use { it.write(json.toByteArray()) } }
        }
    }
    Column(verticalArrangement = Arrangement.spacedBy(8.dp)) {
        Row(horizontalArrangement = Arrangement.spacedBy(8.dp)) {
            Button(onClick = model::runSelfTest, enabled = !model.isBusy) { Text(stringResource(R.string.run)) }
            Button(onClick = { save.launch(DemoModel.REPORT) }, enabled = model.report != null) {
                Text(stringResource(R.string.save_report))
            }
        }
        if (model.isBusy) TextButton(onClick = model::stop) { Text(stringResource(R.string.stop)) }
        val matched = model.cases.count { it.matches }
        Text(stringResource(R.string.matched, matched, model.cases.size - matched))
        LazyColumn(verticalArrangement = Arrangement.spacedBy(4.dp)) {
            items(model.cases) { CaseRow(it) }
        }
    }
}

@Composable
private fun CaseRow(case: CaseReport) {
    val outcome = if (case.matches) "MATCH" else "MISMATCH"
    val color = if (case.matches) MaterialTheme.colorScheme.onSurface else MaterialTheme.colorScheme.error
    val ms = (case.prefillMs + case.decodeMs).roundToInt()
    val decision = "${case.decision.route.text} ${case.decision.reason} ${case.decision.answer.orEmpty()}"
    Text("$outcome  ${case.id}  $decision  $ms ms", color = color, fontFamily = FontFamily.Monospace)
}
