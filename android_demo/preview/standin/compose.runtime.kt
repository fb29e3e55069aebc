package androidx.compose.runtime

import ai.edgekit.preview.Composition
import java.util.concurrent.CopyOnWriteArrayList
import kotlin.reflect.KProperty

/** Here only a mark: no compiler plugin reads it. */
@Target(
    AnnotationTarget.FUNCTION, AnnotationTarget.TYPE, AnnotationTarget.TYPE_PARAMETER, AnnotationTarget.PROPERTY_GETTER,
)
annotation class Composable

class MutableState<T>(@Volatile var value: T)

operator fun <T> MutableState<T>.getValue(owner: Any?, property: KProperty<*>): T = value

operator fun <T> MutableState<T>.setValue(owner: Any?, property: KProperty<*>, value: T) {
    this.value = value
}

fun <T> mutableStateOf(value: T) = MutableState(value)

fun mutableIntStateOf(value: Int) = MutableState(value)

fun <T> mutableStateListOf(): MutableList<T> = CopyOnWriteArrayList()

@Composable
fun <T> remember(calculation: () -> T): T = Composition.remember(calculation)
