package ai.edgekit.demo

import ai.edgekit.core.CloudRequest
import ai.edgekit.core.HybridAnswer
import ai.edgekit.core.Route
import android.content.ClipData
import android.content.ClipboardManager
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.rememberScrollState
import androidx.compose.foundation.verticalScroll
import androidx.compose.material3.AlertDialog
import androidx.compose.material3.Button
import androidx.compose.material3.Card
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.OutlinedTextField
import androidx.compose.material3.Text
import androidx.compose.material3.TextButton
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.saveable.rememberSaveable
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.platform.LocalContext
import androidx.compose.ui.res.stringResource
import androidx.compose.ui.semantics.LiveRegionMode
import androidx.compose.ui.semantics.liveRegion
import androidx.compose.ui.semantics.semantics
import androidx.compose.ui.unit.dp
import java.util.Locale
import kotlin.math.roundToInt

/** The conversation so far, the newest first: the text as it streams, then which side answered, why, how long it took. */
@Composable
fun AskPage(model: DemoModel) {
    var prompt by rememberSaveable { mutableStateOf("") }
    Column(Modifier.verticalScroll(rememberScrollState()), verticalArrangement = Arrangement.spacedBy(8.dp)) {
        OutlinedTextField(
            prompt, { prompt = it }, Modifier.fillMaxWidth(), label = { Text(stringResource(R.string.prompt)) },
        )
        Button(onClick = { model.ask(prompt) }, enabled = !model.isBusy && prompt.isNotBlank()) {
            Text(stringResource(if (model.isBusy) R.string.working else R.string.ask))
        }
        if (model.isBusy) TextButton(onClick = model::stop) { Text(stringResource(R.string.stop)) }
        Text(stringResource(R.string.calls_left, model.window, model.callsLeft))
        model.turns.asReversed().forEach { Exchange(it) }
    }
}

/** One prompt and its answer; a screen reader is told of new text by itself. */
@Composable
private fun Exchange(turn: Turn) {
    Text(stringResource(R.string.you, turn.prompt), style = MaterialTheme.typography.titleSmall)
    if (turn.text.isNotEmpty()) {
        Column(Modifier.semantics { liveRegion = LiveRegionMode.Polite }) {
            Text(markdown(turn.text), style = MaterialTheme.typography.bodyLarge)
        }
    }
    turn.error?.let { Text(it, color = MaterialTheme.colorScheme.error) }
    turn.answer?.let { AnswerCard(it, turn) }
}

@Composable
private fun AnswerCard(answer: HybridAnswer, turn: Turn) {
    val clipboard = LocalContext.current.getSystemService(ClipboardManager::class.java)
    Card(Modifier.fillMaxWidth()) {
        Column(Modifier.padding(12.dp), verticalArrangement = Arrangement.spacedBy(4.dp)) {
            val side = if (answer.route == Route.LOCAL) R.string.side_device else R.string.side_cloud
            Text(stringResource(side, why(answer.reason)), style = MaterialTheme.typography.titleSmall)
            answer.answer?.let { Text(stringResource(R.string.answer, it)) }
            Text(times(answer, turn.memoryMb))
            answer.notice?.let { Text(it) }
            TextButton(onClick = { clipboard.setPrimaryClip(ClipData.newPlainText("edgekit", answer.text)) }) {
                Text(stringResource(R.string.copy))
            }
        }
    }
}

/** Why that side answered, in words. */
@Composable
private fun why(reason: String): String = when (reason) {
    "answer" -> stringResource(R.string.why_answer)
    "marker" -> stringResource(R.string.why_marker)
    "no_answer" -> stringResource(R.string.why_no_answer)
    "budget" -> stringResource(R.string.why_budget)
    "offline" -> stringResource(R.string.why_offline)
    "consent" -> stringResource(R.string.why_consent)
    "too_long" -> stringResource(R.string.why_too_long)
    "device_failed" -> stringResource(R.string.why_device_failed)
    else -> reason
}

@Composable
private fun times(answer: HybridAnswer, memoryMb: Long): String {
    val (prompt, made, ms) = listOf(answer.promptTokens, answer.generatedTokens, answer.localMs.roundToInt())
    val speed = String.format(Locale.getDefault(), "%.1f", if (ms > 0) 1000.0 * made / ms else 0.0)
    val cloud = answer.cloudMs?.roundToInt()
        ?: return stringResource(R.string.times_device, prompt, made, ms, speed, memoryMb)
    return stringResource(R.string.times_cloud, prompt, made, ms, speed, memoryMb, cloud)
}

/** Whether this request may leave the phone: its exact words, its server. */
@Composable
fun ConsentDialog(request: CloudRequest, model: DemoModel) {
    AlertDialog(
        onDismissRequest = { model.confirm(false) },
        confirmButton = {
            TextButton(onClick = { model.confirm(true, always = true) }) { Text(stringResource(R.string.send_always)) }
            TextButton(onClick = { model.confirm(true) }) { Text(stringResource(R.string.send)) }
        },
        dismissButton = {
            TextButton(onClick = { model.confirm(false) }) { Text(stringResource(R.string.keep_here)) }
        },
        title = { Text(stringResource(R.string.consent_title, request.model)) },
        text = { Text(stringResource(R.string.consent_text, request.prompt, request.server)) },
    )
}
