package ai.edgekit.demo

import ai.edgekit.core.CloudRequest
import ai.edgekit.core.HybridAnswer
import ai.edgekit.core.Route
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
import androidx.compose.material3.Slider
import androidx.compose.material3.Text
import androidx.compose.material3.TextButton
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.remember
import androidx.compose.runtime.saveable.rememberSaveable
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.text.input.PasswordVisualTransformation
import androidx.compose.ui.unit.dp
import kotlin.math.roundToInt

/** A prompt, the text as it streams, then which side answered, why, and how long each took. */
@Composable
fun AskPage(model: DemoModel) {
    var prompt by rememberSaveable { mutableStateOf("") }
    Column(Modifier.verticalScroll(rememberScrollState()), verticalArrangement = Arrangement.spacedBy(8.dp)) {
        OutlinedTextField(prompt, { prompt = it }, Modifier.fillMaxWidth(), label = { Text("Ask") })
        Button(onClick = { model.ask(prompt) }, enabled = !model.isBusy && prompt.isNotBlank()) {
            Text(if (model.isBusy) "Working" else "Ask")
        }
        if (model.isBusy) TextButton(onClick = model::stop) { Text("Stop") }
        Text("Cloud calls left in ${model.window} prompts: ${model.callsLeft}")
        if (model.text.isNotEmpty()) Text(model.text, style = MaterialTheme.typography.bodyLarge)
        model.answer?.let { AnswerCard(it) }
    }
}

@Composable
private fun AnswerCard(answer: HybridAnswer) {
    Card(Modifier.fillMaxWidth()) {
        Column(Modifier.padding(12.dp), verticalArrangement = Arrangement.spacedBy(4.dp)) {
            val side = if (answer.route == Route.LOCAL) "Answered on this device" else "Answered by the cloud"
            Text("$side: ${answer.reason}", style = MaterialTheme.typography.titleSmall)
            answer.answer?.let { Text("Answer: $it") }
            Text(times(answer))
            answer.notice?.let { Text(it) }
        }
    }
}

private fun times(answer: HybridAnswer): String {
    val cloud = answer.cloudMs?.let { ", cloud ${it.roundToInt()} ms" }.orEmpty()
    return "${answer.promptTokens} + ${answer.generatedTokens} tokens, device ${answer.localMs.roundToInt()} ms$cloud"
}

/** Whether this request may leave the phone: its exact words, its server. */
@Composable
fun ConsentDialog(request: CloudRequest, model: DemoModel) {
    AlertDialog(
        onDismissRequest = { model.confirm(false) },
        confirmButton = { TextButton(onClick = { model.confirm(true) }) { Text("Send") } },
        dismissButton = { TextButton(onClick = { model.confirm(false) }) { Text("Keep here") } },
        title = { Text("Send this prompt to ${request.model}?") },
        text = { Text("${request.prompt}\n\nIt goes to ${request.server}. Otherwise this device answers.") },
    )
}

/** Who answers hand-offs, and how often. */
@Composable
fun CloudPage(model: DemoModel) {
    var share by remember { mutableStateOf(model.share.toFloat()) }
    val settings = model.settings
    Column(Modifier.verticalScroll(rememberScrollState()), verticalArrangement = Arrangement.spacedBy(8.dp)) {
        OutlinedTextField(
            settings.baseUrl, { model.settings = settings.copy(baseUrl = it.trim()) }, Modifier.fillMaxWidth(),
            label = { Text("Server, https://…/v1") }, singleLine = true,
        )
        OutlinedTextField(
            settings.model, { model.settings = settings.copy(model = it.trim()) }, Modifier.fillMaxWidth(),
            label = { Text("Model") }, singleLine = true,
        )
        OutlinedTextField(
            settings.key, { model.settings = settings.copy(key = it.trim()) }, Modifier.fillMaxWidth(),
            label = { Text("Key, kept in memory only") }, singleLine = true,
            visualTransformation = PasswordVisualTransformation(),
        )
        Text("Budget: ${(share * 100).roundToInt()} % of any ${model.window} prompts in a row")
        Slider(share, { share = it }, onValueChangeFinished = { model.changeShare(share.toDouble()) })
    }
}
